"""Closed forms: what theory says of dilution, hashing, rank, random features and positions. Numbers in, numbers out.

Each function says where its law comes from and where it holds.
"""
