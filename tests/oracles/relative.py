"""Each scheme of relative positions pair by pair from its formula, with the drawn vectors and numbers of the trace."""

import cmath
import math

import torch


def oracle(mechanism, sequence, trace):
    h, n, _ = sequence.q.shape
    v = sequence.v.double()
    rows, seen = torch.zeros(h, n, n, dtype=torch.float64), torch.zeros(h, n, n, dtype=torch.bool)
    offset = torch.zeros_like(v)
    real = list(range(n)) if sequence.padding is None else sequence.padding.nonzero().flatten().tolist()
    q, k = content(sequence)
    for head in range(h):
        for i in real:
            keys = [j for j in real if j <= i or not sequence.causal]
            powers = torch.stack([score(mechanism, sequence, trace, q, k, head, i, j) for j in keys])
            rows[head, i, keys] = powers.softmax(0)
            seen[head, i, keys] = True
            if mechanism.variant == "shaw":
                for j in keys:
                    offset[head, i] += rows[head, i, j] * mechanism.strength * shaw_row(mechanism, sequence, trace.values, i, j)
    return rows @ v + offset, rows, seen


def score(mechanism, sequence, trace, q, k, head, i, j):
    """The scaled score of one pair."""
    root, strength, d = math.sqrt(sequence.d), mechanism.strength, sequence.d
    a, b = q[head, i], k[head, j]
    p = sequence.positions.tolist()
    lag = p[i] - p[j]
    plain = a @ b / root
    match mechanism.variant:
        case "shaw":
            return plain + strength * (a @ shaw_row(mechanism, sequence, trace.embeddings, i, j)) / root
        case "music":
            row = trace.embeddings[max(-mechanism.longest, min(mechanism.longest, lag)) + mechanism.longest]
            return plain + strength * (a @ row.double()) / root
        case "xl":
            r = wave(lag, d) @ trace.projection.double()
            return plain + strength * (trace.u.double() @ b + (a + trace.v.double()) @ r) / root
        case "t5":
            return plain + strength * trace.scalars[bucket(lag, sequence.causal, mechanism.buckets, mechanism.reach)].double()
        case "alibi":
            slope = 2.0 ** (-8 * (sequence.heads[head] + 1) / sequence.total_heads)
            return plain - strength * slope * abs(lag)
        case "rope":
            angles, side = rope_angles(mechanism, sequence)
            turned = sum(
                complex(a[2 * t], a[2 * t + 1]) * complex(b[2 * t], -b[2 * t + 1]) * cmath.exp(1j * strength * angle * lag)
                for t, angle in enumerate(angles)
            )
            return torch.tensor(turned.real * (1 + strength * (side - 1)) ** 2 / root, dtype=torch.float64)
        case "sinusoidal":
            return (a + strength * wave(p[i], d)) @ (b + strength * wave(p[j], d)) / root


def shaw_row(mechanism, sequence, table, i, j):
    lag = int(sequence.positions[i] - sequence.positions[j])
    return table[max(-mechanism.clip, min(mechanism.clip, lag)) + mechanism.clip].double()


def wave(position, d):
    """(sin, cos, sin, cos, …) of the position at falling frequencies."""
    return torch.tensor(
        [(math.sin, math.cos)[c % 2](position * 10000.0 ** (-2 * (c // 2) / d)) for c in range(d)], dtype=torch.float64
    )


def bucket(lag, causal, buckets, reach):
    """T5's bucket by comparing whole numbers: bucket exact + t begins at exact·(reach/exact)^(t/steps)."""
    side = buckets if causal else buckets // 2
    first = 0 if causal or lag >= 0 else side
    distance = max(lag, 0) if causal else abs(lag)
    exact = side // 2
    if distance < exact:
        return first + distance
    steps = side - exact
    begun = [t for t in range(steps) if distance**steps * exact**t >= exact**steps * max(reach, exact + 1) ** t]
    return first + exact + begun[-1]


def rope_angles(mechanism, sequence):
    """Angle a position for each pair, and the factor on queries and keys."""
    d, base = sequence.d, mechanism.base
    positions = sequence.positions.tolist()
    ratio = max(1.0, (max(positions) - min(positions) + 1) / mechanism.trained)
    if mechanism.scaling == "ntk" and d > 2:
        base = base * ratio ** (d / (d - 2))
    angles = [base ** (-2 * t / d) for t in range(d // 2)]
    if mechanism.scaling == "interpolation":
        return [angle / ratio for angle in angles], 1.0
    if mechanism.scaling == "yarn":
        turns = [mechanism.trained / (2 * math.pi / angle) for angle in angles]
        gamma = [0.0 if r < 1 else 1.0 if r > 32 else (r - 1) / 31 for r in turns]
        return [(1 - g) * a / ratio + g * a for g, a in zip(gamma, angles, strict=True)], 0.1 * math.log(ratio) + 1
    return angles, 1.0


def content(sequence):
    """Queries and keys with the rotation taken off, as complex numbers turned backwards."""
    q, k = sequence.q.double(), sequence.k.double()
    if sequence.rotary is None:
        return q, k
    angles = sequence.positions.double()[:, None] * sequence.rotary.double()
    back = torch.polar(torch.ones_like(angles), -angles)

    def turned(x):
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * back).flatten(-2)

    return turned(q), turned(k)
