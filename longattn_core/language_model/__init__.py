"""The real language model: its weights, its tokenizer, and a readable forward pass with attention swapped in."""
