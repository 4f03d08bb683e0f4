"""The words of the laboratory: what a mechanism reads, what it is, and what it gives back.

Dimensions, everywhere: `h` heads, `n` tokens, `d` width of a query or key, `e` width of a value,
`m` features, `r` chosen queries, `c` chosen keys, `g` chosen heads. `sequence.py` holds what is read, `mechanism.py` what a
mechanism is and gives back, `indexing.py` how queries, keys and heads are named. This package imports nothing else of ours.
"""
