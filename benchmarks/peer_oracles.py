"""What each peer computes: its definition in float64, including its own named bug.

A peer must agree with this before it is timed, so that the table compares programs that do what the table says. With `bug` false
a function computes the definition without the bug; the difference is what the bug changes. What a peer has drawn or fitted
(`drawn`) is an input. All functions take and return [h n d] in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longattn_core import Sequence


@dataclass(frozen=True, kw_only=True)
class PeerOracle:
    """`compute(sequence, drawn, arguments, bug)`, and what a comparison needs.

    `bug` is the bug in words (None: it has none here), `tolerance` the largest error of a row as a share of its length, and
    `ties` says whether it takes a maximum, which rounding may change.
    """

    compute: Callable[[Sequence, Mapping[str, Any], Mapping[str, Any], bool], Tensor]
    bug: str | None
    tolerance: float = 1e-5
    ties: bool = False


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    """q kᵀ/√d."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def places(n: int) -> tuple[Tensor, Tensor]:
    """Queries down, keys across."""
    return torch.arange(n)[:, None], torch.arange(n)[None, :]


def softmax_of(sequence: Sequence, allowed: Tensor) -> Tensor:
    """Softmax attention over the allowed pairs `[n n]`."""
    return scores_of(sequence.q, sequence.k).masked_fill(~allowed, -math.inf).softmax(-1) @ sequence.v


def performer(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """Positive features. Its bug: it adds 1e-4 to every feature, after subtracting a maximum that ignores |x|²/2."""
    omega = drawn["projection"].double()
    root = sequence.d**-0.25
    features = []
    for x, over in ((sequence.q, (-1,)), (sequence.k, (-1, -2))):
        along = root * x @ omega.mT
        exponent = along - (root * x).square().sum(-1, keepdim=True) / 2
        top = (along if bug else exponent).amax(over, keepdim=True)
        features.append(((exponent - top).exp() + (1e-4 if bug else 0.0)) / math.sqrt(len(omega)))
    f, g = features
    weights = f @ g.mT
    weight_of_none = 0.0
    if sequence.causal:
        weights = weights.tril()
        weight_of_none = 1e-6 * f.sum(-1, keepdim=True) if bug else 0.0
    return weights @ sequence.v / (weights.sum(-1, keepdim=True) + weight_of_none)


def _hashed(x: Tensor, rotations: Tensor, bucket: int) -> Tensor:
    """The tokens `[chunks bucket]` of one head in the order of (bucket, position), round after round."""
    orders = []
    for number in range(rotations.shape[1]):
        along = x @ rotations[:, number]
        buckets = torch.cat([along, -along], dim=-1).argmax(-1)
        orders.append((buckets * len(x) + torch.arange(len(x))).argsort())
    return torch.cat(orders).view(-1, bucket)


def _in_chunks(
    sequence: Sequence, keys: Tensor, rotations: Tensor, bucket: int, scale: float, itself: float, wraps: bool
) -> Tensor:
    """Attention to the own chunk and the one before; rounds are merged by their sums of exponentials.

    With `wraps` the first chunk of a round looks back into the round before it.
    """
    h, n, _ = sequence.q.shape
    output = torch.empty_like(sequence.v)
    for head in range(h):
        chunks = _hashed(sequence.q[head], rotations[head], bucket)
        a_round = n // bucket
        found = torch.empty(len(chunks) // a_round, n, sequence.e, dtype=torch.float64)
        sums = torch.empty(len(chunks) // a_round, n, dtype=torch.float64)
        for number, tokens in enumerate(chunks):
            before = number - 1 if wraps or number % a_round else number + a_round - 1
            near = torch.cat([tokens, chunks[before]])
            scores = sequence.q[head, tokens] @ keys[head, near].mT * scale
            if sequence.causal:
                scores = scores.masked_fill(tokens[:, None] < near, torch.finfo(torch.float64).min)
            scores = scores.masked_fill(tokens[:, None] == near, itself)
            found[number // a_round, tokens] = scores.softmax(-1) @ sequence.v[head, near]
            sums[number // a_round, tokens] = scores.logsumexp(-1)
        output[head] = (sums.softmax(0)[..., None] * found).sum(0)
    return output


def reformer(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """Shared queries and keys of length 1. Its bug: the look-back wraps across rounds."""
    keys = sequence.q / sequence.q.norm(dim=-1, keepdim=True)
    scale = 1 / math.sqrt(sequence.d)
    return _in_chunks(sequence, keys, drawn["rotations"].double(), arguments["bucket"], scale, -5e4, bug)


def hf_reformer(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """As above. Its bugs: scores without the factor 1/√d, and the look-back that wraps across rounds."""
    keys = sequence.q / (sequence.q.square().mean(-1, keepdim=True) + 1e-6).sqrt() / math.sqrt(sequence.d)
    scale = 1.0 if bug else 1 / math.sqrt(sequence.d)
    return _in_chunks(sequence, keys, drawn["rotations"].double(), arguments["bucket"], scale, -1e5, bug)


def linformer(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """Keys and values projected by E and F, which are an input (it draws them so that norms shrink to a third)."""
    e, f = drawn["e"].double(), drawn["f"].double()
    return scores_of(sequence.q, e.mT @ sequence.k).softmax(-1) @ (f.mT @ sequence.v)


def _nystrom(sequence: Sequence, landmarks: int, start: Callable[[Tensor], Tensor], bug: bool) -> Tensor:
    q, k = (x.unflatten(1, (landmarks, -1)).mean(2) for x in (sequence.q, sequence.k))
    between = scores_of(q, k).softmax(-1)
    if not bug:
        inverse = torch.linalg.pinv(between)
    else:
        inverse, one = start(between), torch.eye(landmarks, dtype=torch.float64)
        for _ in range(6):
            near = between @ inverse
            inverse = inverse @ (13 * one - near @ (15 * one - near @ (7 * one - near))) / 4
    return scores_of(sequence.q, k).softmax(-1) @ inverse @ (scores_of(q, sequence.k).softmax(-1) @ sequence.v)


def nystrom(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """Means as landmarks. Its bug: only six steps towards the pseudo-inverse, from the largest sums of the whole batch."""
    return _nystrom(sequence, arguments["landmarks"], lambda a: a.mT / (a.sum(-1).max() * a.sum(-2).max()), bug)


def hf_nystrom(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """The same six steps, from the largest column sum of the whole batch."""
    return _nystrom(sequence, arguments["landmarks"], lambda a: a.mT / a.sum(-2).max(), bug)


def local(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """The query's own token and `window` tokens on each side; under a causal mask only those before it."""
    query, key = places(sequence.n)
    lag = query - key
    return softmax_of(sequence, (lag <= arguments["window"]) & (lag >= (0 if sequence.causal else -arguments["window"])))


def flex(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """The query's own token and the `window` − 1 before it."""
    query, key = places(sequence.n)
    return softmax_of(sequence, (query >= key) & (query - key < arguments["window"]))


def routing(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """Attention inside clusters. Its bug: a cluster takes the `window` tokens nearest to it, so that a token may be in none.

    A token in several clusters gets the mean of their results (divided by their number + 1e-5). Under a causal mask a cluster
    also holds a key of its own.
    """
    h, n, _ = sequence.q.shape
    means, size = drawn["means"].double(), min(arguments["window"], n)
    output = torch.zeros_like(sequence.v)
    for head in range(h):
        near = [torch.nn.functional.normalize(x[head], dim=-1) @ means[head].mT for x in (sequence.q, sequence.k)]
        count = torch.full((n, 1), 1e-5 if bug else 0.0, dtype=torch.float64)
        for cluster in range(len(means[head])):
            if bug:
                queries, keys = (x[:, cluster].topk(size).indices for x in near)
            else:
                queries, keys = ((x.argmax(-1) == cluster).nonzero()[:, 0] for x in near)
            scores, values = scores_of(sequence.q[head, queries], sequence.k[head, keys]), sequence.v[head, keys]
            if sequence.causal:
                scores = scores.masked_fill(queries[:, None] < keys, -math.inf)
                own = scores_of(sequence.q[head, queries], drawn["memory_keys"][head, cluster].double())
                scores = torch.cat([own, scores], dim=-1)
                values = torch.cat([drawn["memory_values"][head, cluster].double(), values])
            output[head].index_add_(0, queries, scores.softmax(-1) @ values)
            count[queries] += 1
        output[head] /= count
    return output


def longformer(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """A window, half on each side, and the first tokens, which attend to all and to which all attend."""
    query, key = places(sequence.n)
    first = arguments["global_tokens"]
    return softmax_of(sequence, ((query - key).abs() <= arguments["window"] // 2) | (query < first) | (key < first))


def bigbird(sequence: Sequence, drawn: Mapping[str, Any], arguments: Mapping[str, Any], bug: bool) -> Tensor:
    """Three blocks, the first and the last. Its bug: in evaluation mode every random block is the first block again."""
    query, key = (x // arguments["block"] for x in places(sequence.n))
    last = sequence.n // arguments["block"] - 1
    edge = (query == 0) | (query == last)
    near = edge | ((query - key).abs() <= 1) | (key == 0) | (key == last)
    times = torch.where((key == 0) & ~edge & bug, 1 + arguments["random_blocks"], 1).double()
    scores = scores_of(sequence.q, sequence.k) + times.log()
    return scores.masked_fill(~near, -math.inf).softmax(-1) @ sequence.v


STEPS = "six steps towards the pseudo-inverse do not reach it"
ORACLES: Mapping[str, PeerOracle] = {
    "performer_pytorch": PeerOracle(compute=performer, bug="ε = 1e-4 on every feature, after a maximum that ignores |x|²/2"),
    # A token that sees only itself has a score of −50,000 in every round; float32 resolves this to 0.004.
    "reformer_pytorch": PeerOracle(compute=reformer, bug="the look-back wraps across rounds", tolerance=4e-3, ties=True),
    "linformer": PeerOracle(compute=linformer, bug=None),
    "nystrom_attention": PeerOracle(compute=nystrom, bug=STEPS),
    "local_attention": PeerOracle(compute=local, bug=None),
    "flex_attention": PeerOracle(compute=flex, bug=None),
    "routing_transformer": PeerOracle(compute=routing, bug="clusters of one size leave tokens in none", ties=True),
    "hf_reformer": PeerOracle(compute=hf_reformer, bug="no factor 1/√d; the look-back wraps across rounds", ties=True),
    "hf_nystromformer": PeerOracle(compute=hf_nystrom, bug=STEPS),
    "hf_longformer": PeerOracle(compute=longformer, bug=None),
    "hf_bigbird": PeerOracle(compute=bigbird, bug="outside of training every random block is the first one"),
}
