"""Segmented attention from its definition: query by query, item by item."""

import math

import numpy as np
import torch


def oracle(mechanism, sequence, trace):
    """Output, rows and what was seen; nothing is drawn, so the trace is not needed."""
    q, k, v = (x.detach().double().numpy() for x in (sequence.q, sequence.k, sequence.v))
    segments = segments_of(mechanism, sequence)
    own = {token: number for number, segment in enumerate(segments) for token in segment}
    real = sequence.real.numpy()
    rows = np.zeros((sequence.h, sequence.n, sequence.n))
    seen = np.zeros_like(rows, dtype=bool)
    for head in range(sequence.h):
        for i in range(sequence.n):
            if not real[i]:
                continue
            items = tokens_read(mechanism, sequence, segments[own[i]], i, q[head], k[head], real)
            if mechanism.variant == "summaries":
                items += summaries_read(mechanism, sequence, segments, own[i], q[head, i], k[head], real)
            if mechanism.variant == "second":
                items += integrated_read(mechanism, sequence, segments, own[i], i, q[head], k[head], real)
            weights = softmax([score for score, _ in items])
            for weight, (_, lifted) in zip(weights, items, strict=True):
                for token, share in lifted.items():
                    rows[head, i, token] += weight * share
                    seen[head, i, token] = True
    return torch.from_numpy(rows @ v), torch.from_numpy(rows), torch.from_numpy(seen)


def segments_of(mechanism, sequence, shifted=None):
    """The segments as lists of tokens: pack units (tokens, or whole sentences) while there is room."""
    units = [[token] for token in range(sequence.n)]
    if mechanism.boundaries == "sentences":
        names = sequence.levels.sentence.tolist()
        units = [[t for t in range(sequence.n) if names[t] == name] for name in sorted(set(names))]
    shifted = mechanism.variant == "shifted" if shifted is None else shifted
    room = max(1, mechanism.width // 2) if shifted else mechanism.width
    done, current = [], []
    for unit in units:
        if len(current) + len(unit) > room:
            room = mechanism.width
            if current:
                done.append(current)
                current = []
        for token in unit:
            if len(current) == room:
                done.append(current)
                current, room = [], mechanism.width
            current.append(token)
    return [*done, current]


def tokens_read(mechanism, sequence, segment, i, q, k, real):
    reach = mechanism.overlap if mechanism.variant == "overlap" else 0
    items = []
    for j in range(sequence.n):
        near = segment[0] - reach <= j <= segment[-1] + reach
        if near and real[j] and (j <= i or not sequence.causal):
            items.append((q[i] @ k[j] / math.sqrt(len(q[i])), {j: 1.0}))
    return items


def others(sequence, segments, own, real):
    """The other segments that hold a real token, as lists of real tokens; under a causal mask the earlier ones."""
    found = []
    for number, segment in enumerate(segments):
        tokens = [t for t in segment if real[t]]
        if tokens and (number < own if sequence.causal else number != own):
            found.append(tokens)
    return found


def summaries_read(mechanism, sequence, segments, own, query, k, real):
    items = []
    for tokens in others(sequence, segments, own, real):
        score = query @ k[tokens].mean(0) / math.sqrt(len(query))
        if mechanism.counts == "tokens":
            score += math.log(len(tokens))
        items.append((score, {token: 1 / len(tokens) for token in tokens}))
    return items


def integrated_read(mechanism, sequence, segments, own, i, q, k, real):
    context = others(sequence, segments, own, real)
    if not context:
        return []
    asking = context[-1] if sequence.causal else [t for t in segments[own] if real[t]]
    counts = [math.log(len(tokens)) if mechanism.counts == "tokens" else 0.0 for tokens in context]
    keys = [k[tokens].mean(0) for tokens in context]
    root = math.sqrt(len(q[i]))
    beta = softmax([q[asking].mean(0) @ key / root + count for key, count in zip(keys, counts, strict=True)])
    lifted = {token: part / len(tokens) for part, tokens in zip(beta, context, strict=True) for token in tokens}
    score = q[i] @ sum(part * key for part, key in zip(beta, keys, strict=True)) / root
    if mechanism.counts == "tokens":
        score += math.log(sum(len(tokens) for tokens in context))
    return [(score, lifted)]


def softmax(scores):
    powers = np.exp(np.array(scores) - max(scores))
    return powers / powers.sum()
