"""Attention over sorted lists of keys, as hashing and clustering need it.

`order.py` sorts, `sorted_lists.py` says which stretch of each list a query reads, `tiles.py` covers the stretches with small
blocks, `attention.py` computes the output from these, and `map.py` the views of the map.
"""
