"""ProbSparse, one query at a time, with the sampled keys of the trace and nothing else of it."""

import math

import torch


def oracle(mechanism, sequence, trace):
    v = sequence.v.double()
    h, n, _ = sequence.q.shape
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for head in range(h):
        for i in real_tokens(sequence):
            keys = visible_to(sequence, i)
            seen[head, i, keys] = True
            if is_active(mechanism, sequence, trace, head, i):
                powers = scores(sequence, head, i, keys).exp()
                rows[head, i, keys] = powers / powers.sum()
            else:
                rows[head, i, keys] = 1 / len(keys)
    return rows @ v, rows, seen


def is_active(mechanism, sequence, trace, head, i):
    return rank_of(mechanism, sequence, trace, head, i) <= kept(mechanism, sequence, i)


def kept(mechanism, sequence, i):
    """How many of the queries that i is compared with attend."""
    among = len(compared(sequence, i))
    return min(among, mechanism.queries or max(1, math.floor(mechanism.factor * math.log(among))))


def rank_of(mechanism, sequence, trace, head, i):
    mine = measure(mechanism, sequence, trace, head, i)
    rank = 1
    for other in compared(sequence, i):
        theirs = measure(mechanism, sequence, trace, head, other)
        rank += theirs > mine or (theirs == mine and other < i)
    return rank


def measure(mechanism, sequence, trace, head, i):
    """The largest less the mean of the scores that were looked at."""
    sampled = [j for j in trace.sample[i].tolist() if j >= 0]
    found = scores(sequence, head, i, visible_to(sequence, i) if mechanism.measure == "exact" else sampled)
    return float(found.max() - found.mean())


def scores(sequence, head, i, keys):
    return (sequence.k[head, keys].double() @ sequence.q[head, i].double()) / math.sqrt(sequence.d)


def compared(sequence, i):
    return [j for j in real_tokens(sequence) if j <= i or not sequence.causal]


def visible_to(sequence, i):
    return compared(sequence, i)


def real_tokens(sequence):
    return list(range(sequence.n)) if sequence.padding is None else sequence.padding.nonzero().flatten().tolist()
