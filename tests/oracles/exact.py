"""Exact attention, one query at a time."""

import math

import torch


def oracle(mechanism, sequence, trace):
    q, k, v = sequence.q.double(), sequence.k.double(), sequence.v.double()
    h, n, d = q.shape
    real = torch.ones(n, dtype=torch.bool) if sequence.padding is None else sequence.padding
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for i in range(n):
        if not real[i]:
            continue
        visible = [j for j in range(n) if real[j] and (j <= i or not sequence.causal)]
        factor = 1.0
        if mechanism.variant == "temperature":
            factor = 1 / mechanism.temperature
        elif mechanism.variant == "scalable":
            factor = mechanism.scalable * math.log(len(visible))
        elif mechanism.variant == "yarn":
            factor = (0.1 * math.log(max(1.0, n / mechanism.trained)) + 1) ** 2
        for head in range(h):
            powers = torch.tensor([float(q[head, i] @ k[head, j]) for j in visible], dtype=torch.float64)
            powers = (powers * factor / math.sqrt(d)).exp()
            rows[head, i, visible] = powers / powers.sum()
            seen[head, i, visible] = True
    return rows @ v, rows, seen
