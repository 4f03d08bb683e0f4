"""A band by products of small matrices, against the definition in float64; and the memory that its output is written into."""

import math
import mmap

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Sequence
from longattn_core.mechanisms.window import Window, fast
from longattn_core.numerics import band_attention, huge_pages
from longattn_core.numerics.band_attention import SIZE, attend_band, products_allowed
from tests.oracles.window import oracle
from tests.support.sequences import gaussian

SINGLE = {"rtol": 2e-5, "atol": 2e-6}
"""Float32 against float64: sums of a few hundred terms of size 1 in another order."""


def defined(sequence, back, ahead):
    """Output and logsumexps of the band, pair by pair."""
    q, k, v = (x.double() for x in (sequence.q, sequence.k, sequence.v))
    place = torch.arange(sequence.n)
    lag = place[:, None] - place[None, :]
    scores = (q @ k.mT / math.sqrt(sequence.d)).masked_fill((lag > back) | (lag < -ahead), -math.inf)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


@pytest.mark.parametrize("cells", [1, 20_000, band_attention.CELLS], ids=["block by block", "two chunks", "at once"])
@pytest.mark.parametrize(("back", "ahead"), [(0, 0), (3, 5), (31, 0), (0, 40), (64, 64), (70, 129)])
def test_a_band_is_the_definitions(back, ahead, cells, monkeypatch):
    monkeypatch.setattr(band_attention, "CELLS", cells)
    # Heads that are a part of others, in memory of others: nothing but the rows may be taken as contiguous.
    whole = gaussian(420, heads=3, d=8, e=8, causal=False, dtype=torch.float32)
    q, k, v = (x[1:] for x in (whole.q, whole.k, whole.v))
    output, lse = torch.full_like(whole.v, 7.0)[1:], torch.full((2, 420), 7.0)
    rows = range(96, 96 + 5 * SIZE)
    attend_band(q, k, v, rows=rows, back=back, ahead=ahead, output=output, lse=lse)
    expected, logs = defined(Sequence(q=q, k=k, v=v, causal=False), back, ahead)
    within = slice(rows.start, rows.stop)
    assert_close(output[:, within].double(), expected[:, within], **SINGLE)
    assert_close(lse[:, within].double(), logs[:, within], **SINGLE)
    for x in (output, lse):
        assert bool((x[:, : rows.start] == 7).all()) and bool((x[:, rows.stop :] == 7).all())


def test_products_are_used_where_they_are_faster_and_safe(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    x = torch.full((1, 50, 64), 2.6)
    assert products_allowed(x, x, 256)  # each score is 2.6² · 64/8 · log₂e = 78
    assert not products_allowed(x, x, 512)  # numpy would pack the matrices, and use every thread that there is
    louder = x.clone()
    louder[0, -1] *= 1.05
    assert not products_allowed(louder, x, 256)
    assert not products_allowed(x, louder, 256)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not products_allowed(x, x, 256)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not products_allowed(x, x, 256)


@pytest.mark.parametrize("sharpness", [5.0, 79.0, 81.0, 800.0], ids=["calm", "below the bound", "above it", "loud"])
@pytest.mark.parametrize("variant", ["sliding", "sinks"])
def test_a_window_is_the_definitions_however_loud_its_scores(variant, sharpness, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    used = []
    monkeypatch.setattr(fast, "attend_band", lambda *x, **y: used.append(1) or attend_band(*x, **y))
    base = gaussian(300, heads=2, d=16, e=16, causal=False, dtype=torch.float32)
    longest = base.q.norm(dim=-1).amax(-1) * base.k.norm(dim=-1).amax(-1)
    root = math.sqrt(sharpness / (float(longest.max()) / 4 / math.log(2)))
    sequence = Sequence(q=base.q * root, k=base.k * root, v=base.v, causal=False)
    setting = Window(variant=variant, width=50, sinks=3)
    attended = setting.attend(sequence)
    expected, _, _ = oracle(setting, sequence.to(dtype=torch.float64), attended.trace)
    # Scores are rounded by their own size, and weights by as much.
    assert_close(attended.output.double(), expected, rtol=1e-5, atol=1e-6 * max(5.0, sharpness))
    assert bool(used) == (sharpness < 80)


def test_under_a_causal_mask_no_token_decides_how_others_are_computed(monkeypatch):
    def never(*_):
        raise AssertionError("every token was asked")

    monkeypatch.setattr(fast, "products_allowed", never)
    sequence = gaussian(300, d=8, e=8, causal=True, dtype=torch.float32)
    assert Window(variant="sliding", width=20).attend(sequence).output.isfinite().all()
    with pytest.raises(AssertionError, match="every token"):
        Window(variant="sliding", width=20).attend(Sequence(q=sequence.q, k=sequence.k, v=sequence.v, causal=False))


@pytest.mark.parametrize("without", ["nothing", "the word", "the pages"])
def test_large_results_are_laid_out_as_any_other(without, monkeypatch):
    if without == "the word":
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    if without == "the pages":

        class Refusing(mmap.mmap):
            def madvise(self, *_):
                raise OSError(22, "Invalid argument")

        monkeypatch.setattr(mmap, "mmap", Refusing)
    for x in (torch.zeros(3, 4), torch.zeros(1100, 2000).mT, torch.zeros(2, 1100, 1000, dtype=torch.float64)[:1]):
        empty = huge_pages.empty_like(x)
        assert (empty.shape, empty.dtype, empty.device) == (x.shape, x.dtype, x.device)
        assert empty.is_contiguous()
        empty.fill_(3.0)
        assert float(empty.sum()) == 3 * x.numel()
        nothing = huge_pages.zeros(x, *x.shape[1:], 3)
        assert (nothing.shape, nothing.dtype, nothing.device) == ((*x.shape[1:], 3), x.dtype, x.device)
        assert nothing.is_contiguous() and not nothing.any()
    assert not huge_pages.zeros(torch.ones(1), 1100, 2000).any()


def test_large_results_live_as_long_as_their_views():
    assert torch.zeros(1100, 2000).nbytes >= huge_pages.LEAST
    view = huge_pages.empty_like(torch.zeros(1100, 2000)).fill_(2.0)[1000:]
    assert float(view.sum()) == 2 * view.numel()
