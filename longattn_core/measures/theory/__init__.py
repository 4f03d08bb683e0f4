"""Closed forms: what theory says about dilution, hashing, rank, random features and positions.

The functions take and return plain numbers or arrays. Each says where its law comes from, and where it holds.
"""
