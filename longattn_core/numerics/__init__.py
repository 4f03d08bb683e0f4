"""Arithmetic that several mechanisms share: masked softmax, draws, prefix sums, pooling, and the kinds of map."""
