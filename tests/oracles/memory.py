"""Recurrent memory from its definitions: segments and lists of tokens one by one, states token by token."""

import math

import torch


def oracle(mechanism, sequence, trace):
    real = torch.ones(sequence.n, dtype=torch.bool) if sequence.padding is None else sequence.padding
    if mechanism.variant in ("cache", "compressed"):
        return cached(mechanism, sequence, real)
    if mechanism.variant == "slots":
        return through_slots(mechanism, sequence, real, trace.queries.double())
    if mechanism.variant == "delta":
        return corrected(mechanism, sequence, real)
    return faded(mechanism, sequence, real, trace.projection)


def softmax(scores):
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def own_tokens(mechanism, sequence, real, start, i):
    stop = i + 1 if sequence.causal else min(start + mechanism.segment, sequence.n)
    return [j for j in range(start, stop) if real[j]]


def cached(mechanism, sequence, real):
    """A queue of tokens; what falls out of it is grouped into a second queue, or lost."""
    q, k, v = sequence.q.double(), sequence.k.double(), sequence.v.double()
    h, n, d = q.shape
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    cache, summaries = [], []
    for start in range(0, n, mechanism.segment):
        for i in range(start, min(start + mechanism.segment, n)):
            if not real[i]:
                continue
            singles = [[j] for j in cache if real[j]] + [[j] for j in own_tokens(mechanism, sequence, real, start, i)]
            visible = [members for group in summaries if (members := [j for j in group if real[j]])] + singles
            for head in range(h):
                scores = [float(q[head, i] @ k[head, members].mean(0)) / math.sqrt(d) for members in visible]
                for members, weight in zip(visible, softmax(scores), strict=True):
                    rows[head, i, members] = weight / len(members)
                    seen[head, i, members] = True
        cache += range(start, min(start + mechanism.segment, n))
        leaving = cache[: max(0, len(cache) - mechanism.memory)]
        cache = cache[len(leaving) :]
        if mechanism.variant == "compressed":
            summaries += [leaving[a : a + mechanism.rate] for a in range(0, len(leaving), mechanism.rate)]
            summaries = summaries[-mechanism.compressed :]
    return rows @ v, rows, seen


def through_slots(mechanism, sequence, real, slot_queries):
    """Queries see their own segment, and the slots as the segment found them."""
    q, k, v = sequence.q.double(), sequence.k.double(), sequence.v.double()
    h, n, d = q.shape
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    for head in range(h):
        found = slot_history(mechanism, sequence, real, slot_queries, head)
        for i in range(n):
            if not real[i]:
                continue
            start = i - i % mechanism.segment
            own = own_tokens(mechanism, sequence, real, start, i)
            shares = found[i // mechanism.segment]
            keys = [share @ k[head] for share in shares] + [k[head, j] for j in own]
            weights = softmax([float(q[head, i] @ key) / math.sqrt(d) for key in keys])
            for share, weight in zip(shares, weights, strict=False):
                rows[head, i] += weight * share
                seen[head, i] |= real & (torch.arange(n) < start)
            for j, weight in zip(own, weights[len(shares) :], strict=True):
                rows[head, i, j] += weight
                seen[head, i, j] = True
    return rows @ v, rows, seen


def slot_history(mechanism, sequence, real, slot_queries, head):
    """For each segment what it finds in the slots: shares of past tokens `[n]` a slot, or an empty list."""
    k, n = sequence.k[head].double(), sequence.n
    shares, history = [], []
    for start in range(0, n, mechanism.segment):
        history.append(shares)
        tokens = [j for j in range(start, min(start + mechanism.segment, n)) if real[j]]
        if not tokens:
            continue
        new = [torch.eye(n, dtype=torch.float64)[j] for j in tokens]
        mixed = []
        for s, query in enumerate(slot_queries.double()):
            parts = ([shares[s]] if shares else []) + new
            weights = softmax([float(query @ (mix @ k)) / math.sqrt(sequence.d) for mix in parts])
            mixed.append(sum(weight * mix for weight, mix in zip(weights, parts, strict=True)))
        shares = mixed
    return history


def phi(x):
    return torch.where(x > 0, x + 1, torch.exp(x))


def gates_of(mechanism, sequence, real, projection):
    """What the state keeps of each channel when a token is written, `[h n d]`."""
    h, n, d = sequence.q.shape
    keep = torch.ones(h, n, d, dtype=torch.float64)
    if mechanism.variant == "decay":
        for head, number in enumerate(sequence.heads):
            by_head = mechanism.decays == "by head"
            keep[head] = 1 - 2.0 ** (-5 - number) if by_head else 0.5 ** (1 / mechanism.half_life)
    if mechanism.variant == "gated":
        target = 0.5 ** (16 / mechanism.half_life)  # the sigmoid at which its 16th root has this half-life
        bias = math.log(target) - math.log(-math.expm1(math.log(target)))
        inputs = sequence.k.double() @ projection.double().T + bias
        keep = torch.sigmoid(inputs) ** (1 / 16)
    keep[:, ~real] = 1.0
    return keep


def faded(mechanism, sequence, real, projection):
    q, k, v = phi(sequence.q.double()), phi(sequence.k.double()), sequence.v.double()
    h, n, d = q.shape
    keep = gates_of(mechanism, sequence, real, projection)
    rows, output = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros_like(v)
    for head in range(h):
        if sequence.causal:
            state, total = torch.zeros(d, v.shape[2], dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
        else:
            state = sum(torch.outer(k[head, j], v[head, j]) for j in range(n) if real[j])
            total = sum(k[head, j] for j in range(n) if real[j])
        for i in range(n):
            if not real[i]:
                continue
            if sequence.causal:
                state = keep[head, i][:, None] * state + torch.outer(k[head, i], v[head, i])
                total = keep[head, i] * total + k[head, i]
            normaliser = q[head, i] @ total
            output[head, i] = q[head, i] @ state / normaliser
            for j in range(i + 1 if sequence.causal else n):
                left = keep[head, j + 1 : i + 1].prod(0) if sequence.causal else torch.ones(d, dtype=torch.float64)
                rows[head, i, j] = (q[head, i] * left * k[head, j]).sum() / normaliser if real[j] else 0.0
    return output, rows, visible(sequence, real)


def corrected(mechanism, sequence, real):
    """The state token by token; the rows from the product of (I − β k kᵀ) over all later tokens."""
    q, k = (x.double() / x.double().norm(dim=-1, keepdim=True).clamp_min(1e-12) for x in (sequence.q, sequence.k))
    v = sequence.v.double()
    h, n, d = q.shape
    rows, output = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros_like(v)
    for head in range(h):
        state = torch.zeros(d, v.shape[2], dtype=torch.float64)
        writes = {}  # of each token, what is left in the state of β·k: a column of the state for every token
        for i in range(n):
            if not real[i]:
                continue
            key = k[head, i]
            erase = torch.eye(d, dtype=torch.float64) - mechanism.beta * torch.outer(key, key)
            state = erase @ state + mechanism.beta * torch.outer(key, v[head, i])
            writes = {j: erase @ left for j, left in writes.items()}
            writes[i] = mechanism.beta * key
            output[head, i] = q[head, i] @ state
            for j, left in writes.items():
                rows[head, i, j] = q[head, i] @ left
    return output, rows, visible(sequence, real)


def visible(sequence, real):
    allowed = real[:, None] & real[None, :]
    if sequence.causal:
        allowed = allowed.tril()
    return allowed.expand(sequence.h, -1, -1)
