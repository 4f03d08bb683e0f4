"""Hashing attention written from its definition, query by query: only the Gaussian draw comes from the mechanism."""

import math

import torch


def buckets_of(x, rotation, hashing):
    """The bucket of one vector in one round."""
    if rotation.shape[1] == 0:
        return 0
    projected = x @ rotation
    if hashing == "cross_polytope":
        axis = int(projected.abs().argmax())
        return axis if projected[axis] > 0 else axis + rotation.shape[1]
    return sum(2**bit for bit, value in enumerate(projected.tolist()) if value > 0)


def centre_of(tokens, real, calibration_tokens, calibration_real, *, causal, j):
    """The mean that token j may know: of everything, of the calibration, or of what has come so far."""
    if not causal:
        return tokens[real].mean(0)
    if calibration_tokens is not None:
        return calibration_tokens[calibration_real].mean(0)
    past = tokens[: j + 1][real[: j + 1]]
    return past.mean(0) if len(past) else torch.zeros_like(tokens[0])


def hashed(mechanism, sequence, trace, head):
    """Lists of buckets, [round][token], of queries and of keys."""
    q = sequence.q[head].double()
    k = q if mechanism.sharing == "shared" else sequence.k[head].double()
    calibration = sequence.calibration
    of_q = of_k = seen = None
    if calibration is not None:
        seen = calibration.real
        of_q = calibration.q[head].double()
        of_k = of_q if mechanism.sharing == "shared" else calibration.k[head].double()
    out = []
    for x, other in ((q, of_q), (k, of_k)):
        moved = x
        if mechanism.centred:
            centres = [centre_of(x, sequence.real, other, seen, causal=sequence.causal, j=j) for j in range(sequence.n)]
            moved = x - torch.stack(centres)
        out.append([[buckets_of(token, rotation, mechanism.hashing) for token in moved] for rotation in trace.rotations])
    return out


def found_in_round(mechanism, sequence, mine, its, i):
    """The keys that query i finds in one round, by the pattern's definition."""
    real = sequence.real.tolist()
    shared, causal = mechanism.sharing == "shared", sequence.causal
    own_bucket = [j for j in range(sequence.n) if real[j] and its[j] == mine[i]]
    allowed = [j for j in own_bucket if (not causal or j <= i) and not (shared and j == i)]
    if mechanism.order_by == "chunks":
        line = sorted((its[j], j) for j in range(sequence.n) if real[j])
        c = mechanism.chunk
        last = (len(line) - 1) // c
        chunk = min(sum(entry < (mine[i], i) for entry in line) // c, last)
        back = chunk - 1 if chunk else last
        return {j for place, (_, j) in enumerate(line) if place // c in (chunk, back) and j in allowed}
    w = mechanism.width
    if causal:
        return set(allowed[-w:])
    if shared:
        # The own token holds a place of its own in the window.
        w, allowed = w + 1, own_bucket
    place = sum(j < i for j in allowed)
    start = max(0, min(place - w // 2, len(allowed) - w))
    return set(allowed[start : start + w]) - ({i} if shared else set())


def oracle(mechanism, sequence, trace):
    """Output, weights and seen pairs in float64."""
    h, n = sequence.h, sequence.n
    q, v = sequence.q.double(), sequence.v.double()
    k = q / q.norm(dim=-1, keepdim=True).clamp_min(1e-12) if mechanism.sharing == "shared" else sequence.k.double()
    real = [j for j in range(n) if sequence.real[j]]
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for head in range(h):
        query_buckets, key_buckets = hashed(mechanism, sequence, trace, head)
        for place, i in enumerate(real):
            found = set()
            for mine, its in zip(query_buckets, key_buckets, strict=True):
                found |= found_in_round(mechanism, sequence, mine, its, i)
            nearby = [j for other, j in enumerate(real) if abs(place - other) < mechanism.local]
            always = {j for j in nearby + real[: mechanism.sinks] if not sequence.causal or j <= i}
            found |= always - ({i} if mechanism.sharing == "shared" else set())
            keys = sorted(found) or [i]
            scores = torch.stack([q[head, i] @ k[head, j] / math.sqrt(sequence.d) for j in keys])
            rows[head, i, keys] = scores.softmax(0)
            seen[head, i, keys] = True
    return rows @ v, rows, seen
