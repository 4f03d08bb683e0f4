"""Kinds of attention map, each with the views that its structure makes cheap.

`listed.py`: by scores, or by a short list of keys a row. `factored.py`: by two thin factors (`blocks.py` sums them over blocks).
`grouped.py`: by tokens and groups of tokens.
"""
