"""The kinds of implied map: by listed keys, by two thin factors, by groups of tokens."""
