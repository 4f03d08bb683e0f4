"""The laboratory's common types: what a mechanism reads, what a mechanism is, and what it gives back.

| file | holds |
|---|---|
| `sequence.py` | `Sequence` and `Levels`, what every mechanism reads; `exact_rows`, rows of exact attention |
| `mechanism.py` | `Mechanism`, `dial` and `Refused`; it also hands on what `attended.py` defines |
| `attended.py` | `Attended`, what a mechanism gives back, with `Cost`, `Explanation`, `Reason` and `ReadCount` |
| `pooling.py` | `pool_rows`, which streams the rows of a map into cells |
| `indexing.py` | how a range is cut into cells, bands and chunks; plain Python, so that charts can use it without torch |
| `selection.py` | `Index` and `resolve`: which queries, keys and heads a caller chose |

Dimensions, everywhere: `h` heads, `n` tokens, `d` width of a query or key, `e` width of a value,
`m` features, `r` chosen queries, `c` chosen keys, `g` chosen heads. This package imports nothing else of ours.
"""
