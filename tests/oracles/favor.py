"""Attention through features written from its definition: only the draw, or the fitted maps, come from the mechanism."""

import math

import torch


def features(mechanism, trace, x, head, *, keys):
    """φ(x) of one vector, d^(−1/4) applied here."""
    x = x.double() / len(x) ** 0.25
    if mechanism.variant == "hedgehog":
        along = x @ trace.maps[int(keys), head].double()
        return torch.cat((along.softmax(0), (-along).softmax(0)))
    along = trace.projection.double() @ x
    m = len(along)
    length = float(x @ x)
    if mechanism.variant == "relu":
        return along.clamp(min=0) + mechanism.epsilon
    if mechanism.variant == "elu":
        return torch.where(along > 0, along + 1, along.clamp(max=0).exp()) + mechanism.epsilon
    if mechanism.variant == "exponential":
        return along.exp() + mechanism.epsilon
    gaussian = math.exp(-length / 2) if mechanism.kernel == "gaussian" else 1.0
    if mechanism.variant == "positive":
        return math.exp(-length / 2) * gaussian / math.sqrt(m) * along.exp()
    if mechanism.variant == "hyperbolic":
        return math.exp(-length / 2) * gaussian / math.sqrt(2 * m) * torch.cat((along.exp(), (-along).exp()))
    return math.exp(length / 2) * gaussian / math.sqrt(m) * torch.cat((along.sin(), along.cos()))


def oracle(mechanism, sequence, trace):
    v = sequence.v.double()
    h, n, e = v.shape
    real = torch.ones(n, dtype=torch.bool) if sequence.padding is None else sequence.padding
    output = torch.zeros(h, n, e, dtype=torch.float64)
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for head in range(h):
        of_queries = [features(mechanism, trace, x, head, keys=False) for x in sequence.q[head]]
        of_keys = [features(mechanism, trace, x, head, keys=True) for x in sequence.k[head]]
        all_keys = torch.stack(of_keys)
        state = torch.zeros(len(of_keys[0]), e, dtype=torch.float64)
        total = torch.zeros(len(of_keys[0]), dtype=torch.float64)
        if not sequence.causal:
            for j in range(n):
                if real[j]:
                    state, total = state + torch.outer(of_keys[j], v[head, j]), total + of_keys[j]
        for i in range(n):
            if not real[i]:
                continue
            if sequence.causal:
                state, total = state + torch.outer(of_keys[i], v[head, i]), total + of_keys[i]
            weight = of_queries[i] @ total
            output[head, i] = v[head, i] if weight == 0 else of_queries[i] @ state / weight
            visible = [j for j in range(n) if real[j] and (j <= i or not sequence.causal)]
            seen[head, i, visible] = True
            if weight == 0:
                rows[head, i, i] = 1
                continue
            rows[head, i, visible] = all_keys[visible] @ of_queries[i] / weight
    return output, rows, seen
