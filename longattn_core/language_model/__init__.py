"""The language model: its weights, its tokenizer, and a readable forward pass in which attention can be replaced."""
