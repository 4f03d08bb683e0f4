"""Strided attention, one query at a time."""

import math

import torch


def oracle(mechanism, sequence, trace):
    """Output, rows and kept pairs in float64, from the definition."""
    q, k, v = sequence.q.double(), sequence.k.double(), sequence.v.double()
    h, n, d = q.shape
    rows, kept = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for head in range(h):
        for i in range(n):
            if sequence.real[i]:
                keys = [j for j in range(i, -1, -mechanism.stride) if sequence.real[j]]
                scores = torch.stack([q[head, i] @ k[head, j] / math.sqrt(d) for j in keys])
                rows[head, i, keys] = scores.softmax(0)
                kept[head, i, keys] = True
    return rows @ v, rows, kept
