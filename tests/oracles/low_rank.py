"""The low-rank maps written from their definitions: only Linformer's Gaussian draws come from the mechanism."""

import numpy as np
import torch


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def pooling(count, k):
    """`[k count]`: row r holds the mean of tokens count·r/k … count·(r+1)/k."""
    matrix = np.zeros((k, count))
    for row in range(k):
        first, last = count * row // k, count * (row + 1) // k
        matrix[row, first:last] = 1 / (last - first)
    return matrix


def whole_map(mechanism, q, k, e, f, causal):
    """The map of one head whose tokens are all real."""
    count, d = q.shape
    rank = min(mechanism.rank, count)
    if mechanism.variant == "svd":
        scores = q @ k.T / d**0.5
        if causal:
            scores[np.triu_indices(count, 1)] = -np.inf
        u, s, vt = np.linalg.svd(softmax(scores))
        best = sum(s[i] * np.outer(u[:, i], vt[i]) for i in range(rank))
        return np.tril(best) if causal else best
    means = pooling(count, rank)
    if mechanism.variant == "nystrom":
        near_q, near_k = means @ q, means @ k
        between = softmax(near_q @ near_k.T / d**0.5)
        u, s, vt = np.linalg.svd(between)
        kept = s > max(mechanism.cutoff, rank * np.finfo(float).eps) * s[0]
        inverse = (vt[kept].T / s[kept]) @ u[:, kept].T
        return softmax(q @ near_k.T / d**0.5) @ inverse @ softmax(near_q @ k.T / d**0.5)
    if mechanism.projection == "gaussian":
        return softmax(q @ (e @ k).T / d**0.5) @ f
    mixed = softmax(q @ (means @ k).T / d**0.5)
    if mechanism.projection == "mean":
        return mixed @ means
    sample = [count * i // min(count, 4 * rank) for i in range(min(count, 4 * rank))]
    exact = softmax(q[sample] @ k.T / d**0.5)
    return mixed @ np.linalg.lstsq(mixed[sample], exact, rcond=None)[0]


def oracle(mechanism, sequence, trace):
    h, n, _ = sequence.q.shape
    real = np.ones(n, dtype=bool) if sequence.padding is None else sequence.padding.numpy()
    tokens = np.flatnonzero(real)
    e = f = None
    if mechanism.variant == "linformer" and mechanism.projection == "gaussian":
        e, f = trace.e.double().numpy()[:, tokens], trace.f.double().numpy()[:, tokens]
    rows = np.zeros((h, n, n))
    for head in range(h):
        q, k = sequence.q[head].double().numpy()[tokens], sequence.k[head].double().numpy()[tokens]
        rows[head][np.ix_(tokens, tokens)] = whole_map(mechanism, q, k, e, f, sequence.causal)
    rows = torch.from_numpy(rows)
    seen = torch.from_numpy(real[:, None] & real[None, :] & (~np.triu(np.ones((n, n), bool), 1) | (not sequence.causal)))
    return rows @ sequence.v.double(), rows, seen.expand(h, n, n)
