"""Pooled maps by structure against streamed rows: odd windows, cells that begin in mid-block, more cells than tokens, padding."""

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from longattn_core import MECHANISMS
from longattn_core.contracts.indexing import edges, row_chunks
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.favor.features import FeatureMap, draw_projection
from longattn_core.numerics.lists import map as pooled
from longattn_core.numerics.lists import tiles as list_tiles
from longattn_core.numerics.lists.map import pooled_lists
from longattn_core.numerics.lists.sorted_lists import bucketed, by_place, entries_of_lists
from longattn_core.numerics.maps import factored
from longattn_core.numerics.maps.factored import FactoredMap
from longattn_core.numerics.pair_scores import plain_scores, sampled_scores
from longattn_core.studies.base.maps import Maps
from longattn_core.studies.base.study import Setting
from tests.studies.test_every_study import needle
from tests.support.sequences import gaussian

pytestmark = pytest.mark.slow

TOKENS = 330
WINDOWS = (
    ((0, 330), (0, 330), (7, 11)),
    ((33, 301), (17, 290), (9, 31)),
    ((250, 330), (100, 263), (80, 400)),
    ((128, 131), (0, 129), (50, 2)),
)

SETTINGS = [setting for kind in MECHANISMS.values() for setting in kind.variants() if not kind.quadratic and not setting.cubic]

FACTORED = [x for x in SETTINGS if x.key in ("favor", "low_rank") or x.label == "Capsules"]


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


@pytest.mark.parametrize("small", [False, True], ids=["one piece", "many pieces"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("setting", FACTORED, ids=lambda s: f"{s.key} {s.label}")
def test_a_map_by_factors_is_that_of_its_rows(setting, causal, small, monkeypatch):
    """The largest by tiles and the mean by blocks, also where bands, tiles and blocks end inside the window."""
    if small:
        monkeypatch.setattr(factored, "BLOCK_ROWS", 40)
        monkeypatch.setattr(factored, "TILE_ROWS", 24)
        monkeypatch.setattr(factored, "FINE", 5)
    sequence = gaussian(TOKENS, causal=causal, padding="holes")
    if setting.refuses(sequence) is not None:
        assert causal and setting.key != "favor"
        return
    attended = setting.attend(sequence)
    assert isinstance(attended, FactoredMap)
    for queries, keys, shape in (*WINDOWS, ((0, 330), (40, 300), (3, 5)), ((10, 90), (200, 330), (9, 9))):
        rows = attended.rows(torch.arange(*queries))[..., keys[0] : keys[1]]
        tops, sides = edges(*queries, shape[0]), edges(*keys, shape[1])
        means = attended.pooled(queries, keys, shape)
        assert_close(means, cell_means(rows, tops, sides), rtol=1e-9, atol=1e-13)
        largest = attended.pooled(queries, keys, shape, "max")
        assert_close(largest, cell_largest(rows, tops, sides), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("kernel", ["softmax", "gaussian"])
@pytest.mark.parametrize("kind", ["positive", "hyperbolic", "trigonometric", "relu", "elu", "exponential", "hedgehog"])
def test_factors_of_features_and_the_bound_of_their_exponents(kind, kernel):
    source = torch.Generator().manual_seed(2)
    x, columns, rows = (3 * torch.randn(*shape, generator=source, dtype=torch.float64) for shape in ((40, 8), (1,), (40, 1)))
    maps = torch.randn(2, 1, 8, 6, generator=source, dtype=torch.float64) if kind == "hedgehog" else None
    projection = draw_projection(seed=1, m=6, d=8, orthogonal=True, regularised=False, like=x)
    features = FeatureMap(kind=kind, kernel=kernel, epsilon=1e-3, projection=projection, maps=maps)
    plain = features.of(x, head=0, keys=False)
    columns = columns.expand(plain.exponent.shape[-1]).contiguous()
    found = features.shifted(x, columns, rows, head=0, keys=False)
    assert_close(found, plain.shifted(columns + rows), rtol=1e-11, atol=1e-300)
    assert bool((plain.exponent <= features.highest(x.norm(dim=-1, keepdim=True)) + 1e-9).all())


def cell_largest(rows, tops, sides):
    """The largest of each cell of rows that are all held."""
    bands = [rows[:, top - tops[0] : bottom - tops[0]].amax(1) for top, bottom in pairwise(tops)]
    tall = torch.stack(bands, dim=1)
    return torch.stack([tall[..., a - sides[0] : b - sides[0]].amax(-1) for a, b in pairwise(sides)], dim=-1)


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


def test_exact_maps_tell_how_far_they_are(monkeypatch):
    """The exact map needs no output; it is streamed in pieces, and whoever waits can call it off between two of them."""
    source, told = needle(n=300, d=8), []
    monkeypatch.setattr("longattn_core.studies.base.maps.row_chunks", lambda size, width: row_chunks(size, width, 300 * 64))
    result = Maps(source=source, setting=Setting(key="window"), reduce="mean", cells=50).run(
        lambda share, words: told.append((share, words))
    )
    shares = [share for share, words in told if words == "exact attention"]
    assert len(shares) == 1 + 5 and shares == sorted(shares)
    sequence = result.study.sequence()
    expected = cell_means(exact_rows(sequence, None, 0), edges(0, 300, 50), edges(0, 300, 50))[0]
    found = torch.from_numpy(result.arrays["exact"].copy()).nan_to_num()
    assert_close(found, expected.float(), rtol=1e-5, atol=1e-8)


def test_largest_weights_of_a_sample_are_called_so(monkeypatch):
    """Where all rows are too much the same sample is read of both maps, and the words say so; never for maps by lists."""
    monkeypatch.setattr("longattn_core.studies.base.maps.MOST_LARGEST", 300 * 100)
    source = needle(n=300, d=8)
    sampled = Maps(source=source, setting=Setting(key="favor"), cells=50).run()
    assert "sample of its rows: 100 of the window's 300" in sampled.words["sample"]
    rows = exact_rows(sampled.study.sequence(), None, 0)[0]
    tops = edges(0, 300, 50)
    expected = torch.stack([rows[[low, low + 3], :][:, low : low + 6].amax() for low in tops[:-1]])
    found = torch.from_numpy(sampled.arrays["exact"].copy()).diagonal()
    assert_close(found, expected.float(), rtol=1e-5, atol=1e-8)
    assert "sample" not in Maps(source=source, setting=Setting(key="window"), cells=50).run().words
    assert "sample" not in Maps(source=source, setting=Setting(key="favor"), cells=50, reduce="mean").run().words


def test_a_window_has_its_exact_map_at_any_length(monkeypatch):
    """What is too much as a whole is refused in a sentence, and drawn where it is zoomed into."""
    monkeypatch.setattr("longattn_core.studies.base.maps.MOST_EXACT", 300 * 200)
    setting = Setting(key="window")
    whole = Maps(source=needle(n=300, d=8), setting=setting).run()
    assert "exact" not in whole.arrays and whole.words["exact refusal"].endswith("Zoom in to see it.")
    part = Maps(source=needle(n=300, d=8), setting=setting, queries=(150, 250), keys=(0, 300)).run()
    rows = exact_rows(part.study.sequence(), slice(150, 250), 0)[0]
    assert_close(torch.from_numpy(part.arrays["exact"].copy()).nan_to_num(), rows.float(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("key", ["favor", "low_rank", "window", "memory"])
def test_bands_one_under_another_are_the_map(key):
    sequence = gaussian(200, causal=key != "low_rank")
    setting = MECHANISMS[key]() if key != "low_rank" else MECHANISMS[key].model_validate({"variant": "nystrom"})
    attended = setting.attend(sequence)
    for reduce in ("mean", "max"):
        found = list(attended.pooled_bands((20, 190), (0, 200), (30, 40), reduce, 1))
        assert found[-1][0] == 1.0
        whole = attended.pooled((20, 190), (0, 200), (30, 40), reduce, 1)[0]
        assert_close(torch.cat([band for _, band in found]), whole, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("held", ["all", "some", "single"])
@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_lists_pooled_in_their_own_order_are_the_rows_pooled(causal, reduce, held, monkeypatch):
    """Pairs that several lists hold count once, a query that finds nothing counts itself, and shares weigh rows.

    In small tiles, of which some are held and the others made again; and in single precision.
    """
    if held == "some":
        monkeypatch.setattr(pooled, "POOLED_CELLS", 3000)
        monkeypatch.setattr(pooled, "HELD_SCORES", 12_000)
        monkeypatch.setattr(list_tiles, "GAP", 2)
    sequence = gaussian(TOKENS, causal=causal, padding="holes")
    source = torch.Generator().manual_seed(5)
    mine, its = (torch.randint(0, 9, (2, 3, TOKENS), generator=source) for _ in range(2))
    lists = bucketed(mine, its, sequence.real).stretches(5, causal=causal, skip_self=True)
    lists = lists.joined(by_place(sequence.real, 1, 3, causal=causal))
    given = {"real": sequence.real, "scale": 0.4, "skip_self": True}
    heads, shares = torch.tensor([1, 0]), torch.rand(2, TOKENS, generator=source, dtype=torch.float64)
    found = entries_of_lists(sequence.q, sequence.k, lists, torch.arange(TOKENS), heads, **given)
    rows = torch.zeros(2, TOKENS, TOKENS, dtype=torch.float64).scatter_add(2, found.keys.clamp_min(0), found.weights)
    rows = rows * shares[..., None]
    for queries, keys, shape in (*WINDOWS, ((0, 40), (100, 300), (5, 7))):
        tops, sides = edges(*queries, shape[0]), edges(*keys, shape[1])
        q, k, share = (x.float() if held == "single" else x for x in (sequence.q, sequence.k, shares))
        made = pooled_lists(q, k, lists, tops, sides, reduce, heads, shares=share, **given)
        part = rows[:, queries[0] : queries[1], keys[0] : keys[1]]
        if reduce == "mean":
            tall, wide = torch.tensor(tops).diff(), torch.tensor(sides).diff()
            expected = cell_means(part, tops, sides) * (tall[:, None] * wide)
        else:
            expected = cell_largest(part, tops, sides)
        if held == "single":
            assert_close(made, expected.float(), rtol=1e-5, atol=1e-7)
        else:
            assert_close(made, expected, rtol=1e-9, atol=1e-13)
