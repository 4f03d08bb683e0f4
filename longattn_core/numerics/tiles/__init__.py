"""Attention that reads some keys one by one and others as groups, tile by tile.

`groups.py` makes groups of tokens, `cutting.py` cuts the queries into tiles, `pattern.py` says which items a tile reads, and
`reading.py` computes the output and the weights from that.
"""
