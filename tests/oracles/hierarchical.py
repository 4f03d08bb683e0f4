"""Hierarchical attention from its definition: query by query, level by level."""

import math

import numpy as np
import torch


class Group:
    """The real tokens of a group with their means and, over all tokens, the shares by which its value is pooled."""

    def __init__(self, tokens, q, k, members, by_size):
        self.tokens, self.q, self.k = tokens, q[tokens].mean(0), k[tokens].mean(0)
        root = math.sqrt(len(self.q))
        scores = [self.q @ key / root + (math.log(size) if by_size else 0.0) for key, size, _ in members]
        self.share = sum(part * share for part, (_, _, share) in zip(softmax(scores), members, strict=True))


def oracle(mechanism, sequence, trace):
    """Output, rows and what was seen; nothing is drawn, so the trace is not needed."""
    q, k, v = (x.detach().double().numpy() for x in (sequence.q, sequence.k, sequence.v))
    row_of = {"near_far": dyadic_row, "h1d": dyadic_row}.get(mechanism.variant, nested_row)
    rows = np.zeros((sequence.h, sequence.n, sequence.n))
    seen = np.zeros_like(rows, dtype=bool)
    for head in range(sequence.h):
        levels = [] if row_of is dyadic_row else build(mechanism, sequence, q[head], k[head])
        for i in range(sequence.n):
            if sequence.real[i]:
                for part, token in row_of(mechanism, sequence, levels, i, q[head], k[head]):
                    rows[head, i] += part
                    seen[head, i] |= token
    return torch.from_numpy(rows @ v), torch.from_numpy(rows), torch.from_numpy(seen)


def membership(mechanism, sequence):
    """For each level above the tokens, the name of each token's group."""
    if mechanism.groups == "text" and sequence.levels is not None:
        names = [sequence.levels.sentence.tolist(), sequence.levels.paragraph.tolist()]
    else:
        names = [[t // mechanism.fanout**level for t in range(sequence.n)] for level in (1, 2)]
    return names[: mechanism.levels - 1]


def build(mechanism, sequence, q, k):
    """The groups of each level that hold a real token, by name, with their pooled values."""
    by_size, levels = mechanism.counts == "tokens", []
    for depth, names in enumerate(membership(mechanism, sequence)):
        level = {}
        for name in sorted(set(names)):
            tokens = [t for t in range(sequence.n) if names[t] == name and sequence.real[t]]
            if not tokens:
                continue
            if depth == 0:
                members = [(k[t], 1, one_hot(t, sequence.n)) for t in tokens]
            else:
                inner = [g for g in levels[-1].values() if names[g.tokens[0]] == name]
                members = [(g.k, len(g.tokens), g.share) for g in inner]
            level[name] = Group(tokens, q, k, members, by_size)
        levels.append(level)
    return levels


def nested_row(mechanism, sequence, levels, i, q, k):
    """Parts of one row, each with the tokens that it looks at."""
    names, root, by_size = membership(mechanism, sequence), math.sqrt(q.shape[1]), mechanism.counts == "tokens"

    def score(key, size):
        return q[i] @ key / root + (math.log(size) if by_size else 0.0)

    def up_to_now(tokens):
        return [t for t in tokens if t <= i or not sequence.causal]

    def in_scope(depth):
        """The groups of a level that stand in the query's own group of the level above."""
        if depth == len(levels) - 1:
            return levels[depth]
        return {x: g for x, g in levels[depth].items() if names[depth + 1][g.tokens[0]] == names[depth + 1][i]}

    own_tokens = levels[0][names[0][i]].tokens if levels else np.flatnonzero(sequence.real.numpy()).tolist()
    own_tokens = up_to_now(own_tokens)
    token_scores = [q[i] @ k[t] / root for t in own_tokens]
    found = []
    if mechanism.variant == "product":
        prefix = 1.0
        for depth in reversed(range(len(levels))):
            own = names[depth][i]
            groups = [g for x, g in in_scope(depth).items() if (x < own if sequence.causal else x != own)]
            mine = up_to_now(levels[depth][own].tokens)
            scores = [score(g.k, len(g.tokens)) for g in groups] + [score(k[mine].mean(0), len(mine))]
            shares = softmax(scores)
            found += [(prefix * p * g.share, among(g.tokens, sequence.n)) for p, g in zip(shares, groups, strict=False)]
            prefix *= shares[-1]
        for p, t in zip(softmax(token_scores), own_tokens, strict=True):
            found.append((prefix * p * one_hot(t, sequence.n), among([t], sequence.n)))
        return found

    readings = [(token_scores, [(one_hot(t, sequence.n), [t]) for t in own_tokens])]
    for depth in range(len(levels)):
        groups = [g for x, g in in_scope(depth).items() if not sequence.causal or x < names[depth][i]]
        if groups:
            items = [(g.share, g.tokens) for g in groups]
            readings.append(([score(g.k, len(g.tokens)) for g in groups], items))
    gates = [1 / len(readings)] * len(readings)
    if mechanism.variant == "gate":
        gates = softmax([math.log(sum(math.exp(s) for s in scores)) for scores, _ in readings])
    for gate, (scores, items) in zip(gates, readings, strict=True):
        for p, (share, tokens) in zip(softmax(scores), items, strict=True):
            found.append((gate * p * share, among(tokens, sequence.n)))
    return found


def dyadic_row(mechanism, sequence, levels, i, q, k):
    """Every key at the least level at which the blocks of the pair touch; one softmax over the coarse tokens."""
    block, real = mechanism.block + mechanism.block % 2, sequence.real.numpy()
    read = {}
    for j in range(sequence.n):
        if real[j] and (j <= i or not sequence.causal):
            level = 0
            while abs(i // (block * 2**level) - j // (block * 2**level)) > 1:
                level += 1
            read.setdefault((level, j // 2**level), []).append(j)
    scores = []
    for (level, coarse), found in read.items():
        tokens = [t for t in range(sequence.n) if t // 2**level == coarse and real[t]]
        assert tokens == found, "a coarse token is read whole or not at all"
        asking = q[i]
        if mechanism.variant == "h1d":
            asking = q[[t for t in range(sequence.n) if t // 2**level == i // 2**level and real[t]]].mean(0)
        scores.append(asking @ k[tokens].mean(0) / math.sqrt(q.shape[1]) + math.log(len(tokens)))
    return [
        (p / len(tokens) * among(tokens, sequence.n), among(tokens, sequence.n))
        for p, tokens in zip(softmax(scores), read.values(), strict=True)
    ]


def one_hot(token, n):
    return np.eye(n)[token]


def among(tokens, n):
    return np.isin(np.arange(n), tokens)


def softmax(scores):
    powers = np.exp(np.array(scores) - max(scores))
    return powers / powers.sum()
