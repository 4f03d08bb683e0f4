"""Pooled maps by structure against streamed rows: odd windows, cells that begin in mid-block, more cells than tokens, padding."""

import pytest
import torch
from torch.testing import assert_close

from longattn_core import MECHANISMS
from longattn_core.contracts import edges
from longattn_core.numerics.pair_scores import plain_scores, sampled_scores
from tests.sequences_for_tests import gaussian

TOKENS = 330
WINDOWS = (
    ((0, 330), (0, 330), (7, 11)),
    ((33, 301), (17, 290), (9, 31)),
    ((250, 330), (100, 263), (80, 400)),
    ((128, 131), (0, 129), (50, 2)),
)

SETTINGS = [
    setting for kind in MECHANISMS.values() for setting in kind.variants() if not kind.quadratic and not setting.cubic
]


@pytest.mark.parametrize("padding", ["none", "holes"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s.key} {s.label}")
def test_a_mean_map_by_structure_is_that_of_streamed_rows(setting, causal, padding):
    sequence = gaussian(TOKENS, causal=causal, padding=padding)
    if setting.refuses(sequence) is not None:
        assert setting.refuses(gaussian(TOKENS, causal=not causal, padding=padding)) is None
        return
    attended = setting.attend(sequence)
    for queries, keys, shape in WINDOWS:
        pooled = attended.pooled(queries, keys, shape)
        rows = attended.rows(torch.arange(*queries))[..., keys[0] : keys[1]]
        expected = cell_means(rows, edges(*queries, shape[0]), edges(*keys, shape[1]))
        assert_close(pooled, expected, rtol=1e-9, atol=1e-13)


def cell_means(rows, tops, sides):
    """The mean of each cell of rows that are all held, by the definition: two matrices that average."""
    return averages(tops, rows) @ rows @ averages(sides, rows).mT


def averages(bounds, like):
    """One row a cell, 1/size at its tokens."""
    tokens = torch.arange(bounds[0], bounds[-1])
    low, high = torch.tensor(bounds[:-1])[:, None], torch.tensor(bounds[1:])[:, None]
    return ((tokens >= low) & (tokens < high)).to(like.dtype) / (high - low)


def test_sampled_scores_are_those_of_gathered_keys():
    source = torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, count, 5, generator=source, dtype=torch.float64) for count in (37, 50))
    keys = torch.randint(0, 50, (2, 37, 9), generator=source)
    assert_close(sampled_scores(q, k, keys), plain_scores(q, k, keys), rtol=1e-13, atol=1e-14)
    assert_close(plain_scores(q, k, keys)[1, 20, 4], q[1, 20] @ k[1, keys[1, 20, 4]], rtol=1e-13, atol=1e-14)
    assert sampled_scores(q, k, keys[..., :0]).shape == (2, 37, 0)
