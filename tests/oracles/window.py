"""Windows, sinks, global tokens, random and chosen blocks: the set of keys of each query, then a softmax over it."""

import math

import torch


def oracle(mechanism, sequence, trace):
    q, k, v = sequence.q.double(), sequence.k.double(), sequence.v.double()
    h, n, d = q.shape
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for head in range(h):
        for i in range(n):
            keys = keys_of(mechanism, sequence, trace, head, i)
            if not keys:
                continue
            powers = torch.stack([(q[head, i] @ k[head, j] / math.sqrt(d)).exp() for j in keys])
            rows[head, i, keys] = powers / powers.sum()
            seen[head, i, keys] = True
    return rows @ v, rows, seen


def keys_of(mechanism, sequence, trace, head, i):
    """The keys that query i sees, in order."""
    variant, block = mechanism.variant, mechanism.block
    visible = visible_to(sequence, i)
    real = real_tokens(sequence)
    keys = set()
    if variant != "selected" or mechanism.windowed:
        keys |= {j for j in visible if inside(mechanism, sequence, i, j)}
    if variant == "sinks":
        keys |= set(real[: mechanism.sinks])
    if variant in ("global", "bigbird"):
        first = real[: mechanism.global_tokens]
        keys |= set(visible if i in first else first)
    if variant == "bigbird" and mechanism.random_blocks and len(trace.random):
        keys |= {j for j in visible if j // block in trace.random[i // block].tolist()}
    if variant == "selected":
        kept = [i // block, *[number for number, _ in ranked_blocks(mechanism, sequence, head, i)][: mechanism.selected_blocks]]
        keys |= {j for j in visible if j // block in kept}
    return sorted(keys & set(visible))


def visible_to(sequence, i):
    real = real_tokens(sequence)
    return [j for j in real if j <= i or not sequence.causal] if i in real else []


def real_tokens(sequence):
    return list(range(sequence.n)) if sequence.padding is None else sequence.padding.nonzero().flatten().tolist()


def inside(mechanism, sequence, i, j):
    """Is j one of the window's tokens of query i?"""
    step = 1 if mechanism.variant == "selected" else mechanism.dilation
    if (i - j) % step:
        return False
    steps = (i - j) // step
    return 0 <= steps < mechanism.width if sequence.causal else -(mechanism.width // 2) <= steps <= mechanism.width // 2


def ranked_blocks(mechanism, sequence, head, i):
    """(block, score) of each block that query i may choose, best first, the earlier of two equal ones first."""
    own, real = i // mechanism.block, real_tokens(sequence)
    scores = []
    for number in range(math.ceil(sequence.n / mechanism.block)):
        if number == own or (sequence.causal and number > own):
            continue
        members = [j for j in real if j // mechanism.block == number]
        if members:
            mean = sequence.k[head, members].double().sum(0) / len(members)
            scores.append((number, float(sequence.q[head, i].double() @ mean)))
    return sorted(scores, key=lambda pair: -pair[1])
