"""Routing written from its definitions, token by token: centroids, W_r and κ come from the mechanism, nothing else does."""

import math

import torch


def first_fitted(sequence):
    """The first query that may use what was fitted on the sequence's own past."""
    if not sequence.causal or sequence.calibration is not None:
        return 0
    real = [i for i in range(sequence.n) if sequence.real[i]]
    return real[math.ceil(len(real) / 4) - 1] + 1


def fitted_on(x, of_calibration, sequence, head):
    """The tokens, of queries or of keys, that a mean may be taken of."""
    if sequence.causal and sequence.calibration is not None:
        return of_calibration[head][sequence.calibration.real].double()
    end = first_fitted(sequence) if sequence.causal else sequence.n
    return x[head, :end][sequence.real[:end]].double()


def nearest(x, mean, centroids):
    directions = x.double() - mean
    directions = directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return [int((centroids @ token).argmax()) for token in directions]


def around(members, i, width, causal):
    """The last `width` members up to i; without a mask, `width` around i's place among them."""
    if causal:
        return [j for j in members if j <= i][-width:]
    place = sum(j < i for j in members)
    start = max(0, min(place - width // 2, len(members) - width))
    return members[start : start + width]


def keys_of_clusters(mechanism, sequence, centroids, head, i):
    real = [j for j in range(sequence.n) if sequence.real[j]]
    if i < first_fitted(sequence):
        return [j for j in real if j <= i][-mechanism.width :]
    of_q = of_k = torch.zeros(sequence.d, dtype=torch.float64)
    if mechanism.centred:
        other = sequence.calibration
        of_q = fitted_on(sequence.q, None if other is None else other.q, sequence, head).mean(0)
        of_k = fitted_on(sequence.k, None if other is None else other.k, sequence, head).mean(0)
    query = nearest(sequence.q[head, i : i + 1], of_q, centroids[head])[0]
    its = nearest(sequence.k[head], of_k, centroids[head])
    found = around([j for j in real if its[j] == query], i, mechanism.width, sequence.causal)
    return found or [i]


def keys_of_window(sequence, i, width, sinks, stride):
    """Every stride-th token up to `width` of them (half on each side without a mask), and the first `sinks` tokens."""
    real = [j for j in range(sequence.n) if sequence.real[j]]
    if sequence.causal:
        near = {i - step * stride for step in range(width)}
    else:
        near = {i + step * stride for step in range(-(width // 2), width // 2 + 1)}
    keys = [j for j in real if (j in near or j in real[:sinks]) and (j <= i or not sequence.causal)]
    return keys or [i]


def keys_of(name, mechanism, sequence, centroids, head, i):
    sinks = min(mechanism.sinks, mechanism.width - 1)
    if name == "local":
        return keys_of_window(sequence, i, mechanism.width - sinks, sinks, 1)
    if name == "strided":
        return keys_of_window(sequence, i, mechanism.width, 0, min(4096, max(1, math.ceil(sequence.n / mechanism.width))))
    if name == "clusters":
        return keys_of_clusters(mechanism, sequence, centroids, head, i)
    return [j for j in range(sequence.n) if sequence.real[j] and (j <= i or not sequence.causal)]


def softmax_over(sequence, head, i, keys):
    scores = torch.stack([sequence.q[head, i].double() @ sequence.k[head, j].double() for j in keys])
    return (scores / math.sqrt(sequence.d)).softmax(0)


def shares_of(mechanism, sequence, router, head, i):
    """The softmax of W_r q over the top k paths; every path alike before the fit (none when W_r was drawn)."""
    logits = (sequence.q[head, i].double() @ router[head].double()).tolist()
    if mechanism.weights == "fitted" and i < first_fitted(sequence):
        logits = [0.0] * len(logits)
    kept = sorted(range(len(logits)), key=lambda p: -logits[p])[: mechanism.top_k or len(logits)]
    total = sum(math.exp(logits[p]) for p in kept)
    return [math.exp(logits[p]) / total if p in kept else 0.0 for p in range(len(logits))]


def oracle(mechanism, sequence, trace):
    """Output, weights and seen pairs in float64."""
    h, n = sequence.h, sequence.n
    if mechanism.variant == "capsules":
        return capsules(mechanism, sequence, trace)
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for head in range(h):
        for i in range(n):
            if not sequence.real[i]:
                continue
            if mechanism.variant == "clusters":
                keys = keys_of_clusters(mechanism, sequence, trace.centroids, head, i)
                rows[head, i, keys] = softmax_over(sequence, head, i, keys)
                seen[head, i, keys] = True
                continue
            shares = shares_of(mechanism, sequence, trace.router, head, i)
            for name, share in zip(mechanism.paths, shares, strict=True):
                keys = keys_of(name, mechanism, sequence, trace.centroids, head, i)
                if share > 0:
                    rows[head, i, keys] += share * softmax_over(sequence, head, i, keys)
                    seen[head, i, keys] = True
    return rows @ sequence.v.double(), rows, seen


def capsules(mechanism, sequence, trace):
    """Procedure 1 of Sabour et al., capsule by capsule, with q·κ as the first logits and v as every vote."""
    h, n, v = sequence.h, sequence.n, sequence.v.double()
    real = [i for i in range(n) if sequence.real[i]]
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    output = torch.zeros_like(v)
    for head in range(h):
        b = {i: sequence.q[head, i].double() @ trace.directions.double().mT for i in real}
        for _ in range(mechanism.iterations):
            c = {i: b[i].softmax(0) for i in real}
            s = sum(c[i][:, None] * v[head, i] for i in real)
            squash = [float(x.norm()) / (1 + float(x.norm()) ** 2) for x in s]
            vectors = torch.stack([x * factor for x, factor in zip(s, squash, strict=True)])
            b = {i: b[i] + vectors @ v[head, i] for i in real}
        for i in real:
            output[head, i] = c[i] @ vectors
            seen[head, i, real] = True
            for j in real:
                rows[head, i, j] = sum(c[i][m] * squash[m] * c[j][m] for m in range(mechanism.capsules))
    return output, rows, seen
