"""Groups and readings, apart from any mechanism: pooling within groups, tiles, chunks, and maps pooled from lists."""

import math

import pytest
import torch
from torch.testing import assert_close

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.numerics.maps import grouped
from longattn_core.numerics.tiles import reading
from longattn_core.numerics.tiles.cutting import TILE, cut_tiles
from longattn_core.numerics.tiles.groups import mean_groups, numbered, pooled_groups, softmax_within
from tests.support.sequences import gaussian

SETTINGS = [
    Segmented(variant="summaries", width=9),
    Segmented(variant="second", width=9),
    Segmented(variant="overlap", width=9, overlap=4),
    Hierarchical(),
    Hierarchical(variant="gate"),
    Hierarchical(variant="near_far", block=4),
    Hierarchical(variant="h1d", block=4),
]


def test_groups_are_numbered_without_gaps():
    assert numbered(torch.tensor([0, 0, 3, 3, 4, 9])).tolist() == [0, 0, 1, 1, 2, 3]
    assert numbered(torch.tensor([0])).tolist() == [0]


def test_softmax_within_groups():
    scores = torch.tensor([[1.0, 2.0, 900.0, -900.0, 5.0, 7.0]], dtype=torch.float64)
    alive = torch.tensor([True, True, True, True, False, False])
    shares = softmax_within(scores, torch.tensor([0, 0, 1, 1, 1, 2]), alive, 3)
    first = 1 / (1 + math.e)
    expected = torch.tensor([[first, 1 - first, 1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    assert_close(shares, expected, rtol=1e-14, atol=1e-300)


def test_means_and_shares_are_over_real_tokens():
    sequence = gaussian(11, padding="holes")
    of = torch.tensor([0] * 4 + [1] * 7)
    real = [[0, 1, 2], [4, 5, 6, 7, 9, 10]]
    means = mean_groups(sequence, of)
    assert means.size.tolist() == [3, 6]
    assert (means.first.tolist(), means.last.tolist()) == ([0, 4], [3, 10])
    for group, tokens in enumerate(real):
        assert_close(means.k[:, group], sequence.k[:, tokens].mean(1), rtol=1e-13, atol=1e-14)
        assert_close(means.v[:, group], sequence.v[:, tokens].mean(1), rtol=1e-13, atol=1e-14)
    pooled = pooled_groups(sequence, of, None, False)
    assert_close(pooled.share[:, 4:].sum(1), torch.ones(2, dtype=torch.float64), rtol=1e-13, atol=0)
    assert float(pooled.share[:, ~sequence.real].abs().max()) == 0


def test_tiles_hold_every_query_once_and_cross_no_start():
    starts = torch.tensor([0, 5, 6, 6 + 3 * TILE + 1])
    first, stop = cut_tiles(starts, 700)
    assert int(first[0]) == 0
    assert int(stop[-1]) == 700
    assert torch.equal(first[1:], stop[:-1])
    assert int((stop - first).max()) == TILE
    assert int((stop - first).min()) >= 1
    assert set(starts.tolist()) <= set(first.tolist())


@pytest.mark.parametrize("causal", [True, False])
def test_segments_longer_than_a_tile(causal):
    n, width = 2 * TILE + 90, TILE + 50
    sequence = gaussian(n, heads=1, causal=causal, padding="holes")
    attended = Segmented(width=width).attend(sequence)
    index = torch.arange(n)
    inside = sequence.allowed() & (index[:, None] // width == index // width)
    exact = exact_rows(sequence)[0] * inside
    expected = exact / exact.sum(-1, keepdim=True).clamp_min(1e-300)
    assert_close(attended.rows()[0], expected, rtol=1e-11, atol=1e-14)
    assert_close(attended.output[0], expected @ sequence.v[0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda x: f"{x.key} {x.variant}")
def test_many_small_chunks_give_what_one_gives(setting, monkeypatch):
    sequence = gaussian(75, causal=setting.variant != "h1d", padding="holes")
    whole = setting.attend(sequence)
    rows, seen, pooled = whole.rows(), whole.kept(), whole.pooled(shape=(9, 8))
    for module in (reading, grouped):
        monkeypatch.setattr(module, "STREAM_CELLS", 700)
    small = setting.attend(sequence)
    assert_close(small.output, whole.output, rtol=1e-12, atol=1e-13)
    assert_close(small.rows(), rows, rtol=1e-12, atol=1e-13)
    assert torch.equal(small.kept(), seen)
    assert_close(small.pooled(shape=(9, 8)), pooled, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda x: f"{x.key} {x.variant}")
def test_pooling_lists_is_pooling_rows(setting, causal, reduce):
    """Windows that begin and end inside groups, and cells finer and coarser than groups."""
    if setting.variant == "h1d" and causal:
        pytest.skip("refuses a causal mask")
    attended = setting.attend(gaussian(75, causal=causal, padding="holes"))
    heads = torch.tensor([1, 0])
    for rows, columns in (([0, 20, 75], [0, 3, 7, 11, 60, 75]), ([13, 14, 40], [5, 6, 7, 31])):
        streamed = Attended._pooled(attended, rows, columns, reduce, heads)
        assert_close(attended._pooled(rows, columns, reduce, heads), streamed, rtol=1e-11, atol=1e-14)


def test_rows_in_any_order_and_twice():
    attended = Hierarchical(variant="near_far", block=4).attend(gaussian(75))
    chosen = [70, 3, 70, 71, 0, 12]
    assert_close(attended.rows(chosen), attended.rows()[:, chosen], rtol=1e-12, atol=1e-14)
