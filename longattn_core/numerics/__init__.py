"""Arithmetic that several mechanisms share.

| file | holds |
|---|---|
| `softmax.py` | softmax under a mask, merging by logsumexps, exact attention and its cost |
| `block_attention.py`, `band_attention.py` | attention in blocks and in bands, by fast kernels with plain references |
| `lists/` | attention over sorted lists of keys, as hashing and clustering need it |
| `tiles/` | attention over tokens and groups of tokens, tile by tile |
| `maps/` | the kinds of attention map, with the views that their structure makes cheap |
| `pair_scores.py` | products of queries with a few keys each |
| `certain_argmax.py` | the argmax of double precision, mostly at the price of single precision |
| `draws.py` | reproducible random draws |
| `rotary.py` | rotary positions and sinusoids |
| `huge_pages.py` | memory for large results |
"""
