"""Feature maps fitted to one head, so that their rows match those of softmax attention on a sample of tokens.

Source: Zhang et al. 2024, arXiv:2402.04347 (Hedgehog), section 4: φ(x) = [softmax(xW), softmax(−xW)], W fitted by the
cross-entropy between rows. Ours: one W for queries and one for keys, both started from the same random rotation and fitted
in a fixed number of full-batch Adam steps in float32, so that the same head always gives the same maps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adam import adam

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.favor.features import FeatureMap

SAMPLE = 256
"""How many tokens of a head the maps are fitted on."""

RATE = 0.1
"""Adam's learning rate in the first step; it falls linearly to 0."""


def fit_maps(sequence: Sequence, *, causal: bool, start: Float[Tensor, "half d"], steps: int) -> Float[Tensor, "2 h d half"]:
    """Fit one pair of maps a head on up to 256 real tokens, evenly spaced. Cost 3·steps·256·(2·d·half + 512·half) a head.

    `causal` masks the rows that are matched. The result is a constant: no gradient leads through the fit.
    """
    real = sequence.real.nonzero().squeeze(-1)
    count = min(SAMPLE, len(real))
    chosen = real[torch.arange(count, device=real.device) * len(real) // count]
    # A page may run in inference mode, in which no gradient is computed.
    with torch.inference_mode(False), torch.enable_grad():
        rotation = start.detach().float().clone()
        heads = [
            _fit_head(q.detach().float()[chosen].clone(), k.detach().float()[chosen].clone(), rotation, causal, steps)
            for q, k in zip(sequence.q, sequence.k, strict=True)
        ]
    return torch.stack(heads, dim=1).to(sequence.q.dtype)


def _fit_head(
    q: Float[Tensor, "s d"], k: Float[Tensor, "s d"], rotation: Float[Tensor, "half d"], causal: bool, steps: int
) -> Float[Tensor, "2 d half"]:
    hidden = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu(1) if causal else None
    target = _masked(q @ k.mT / q.shape[-1] ** 0.5, hidden).softmax(-1)
    maps = torch.stack((rotation.mT, rotation.mT)).contiguous()
    mean, square, count = torch.zeros_like(maps), torch.zeros_like(maps), torch.zeros(())
    for step in range(steps):
        maps.requires_grad_(True)
        rows = _masked(_log_kernel(q, k, maps), hidden).log_softmax(-1)
        loss = -(target * rows.masked_fill(target == 0, 0.0)).sum(-1).mean()
        (gradient,) = torch.autograd.grad(loss, maps)
        maps = maps.detach()
        # The function and not the class `Adam`, whose first step imports torch's compiler: that takes some seconds.
        adam(
            [maps],
            [gradient],
            [mean],
            [square],
            [],
            [count],
            amsgrad=False,
            beta1=0.9,
            beta2=0.99,
            lr=RATE * (1 - step / steps),
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
    return maps


def _log_kernel(q: Float[Tensor, "s d"], k: Float[Tensor, "s d"], maps: Float[Tensor, "2 d half"]) -> Float[Tensor, "s s"]:
    feature_map = FeatureMap(kind="hedgehog", kernel="softmax", epsilon=0.0, projection=maps[0].mT, maps=maps[:, None])
    query, key = feature_map.of(q, head=0, keys=False), feature_map.of(k, head=0, keys=True)
    highest_query = query.exponent.detach().amax(-1, keepdim=True)
    highest_key = key.exponent.detach().amax(-1, keepdim=True)
    product = query.shifted(-highest_query) @ key.shifted(-highest_key).mT
    return product.clamp_min(torch.finfo(product.dtype).tiny).log() + highest_query + highest_key.mT


def _masked(scores: Float[Tensor, "s s"], hidden: Tensor | None) -> Float[Tensor, "s s"]:
    return scores if hidden is None else scores.masked_fill(hidden, -torch.inf)
