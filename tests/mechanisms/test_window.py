"""What is special about windows, sinks, global tokens, random and chosen blocks."""

import math

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Sequence
from longattn_core.contracts.mechanism import Reason
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.window import Window, chosen
from longattn_core.mechanisms.window.map import WindowReason
from longattn_core.mechanisms.window.pattern import random_blocks
from longattn_core.numerics.block_attention import kernel_allowed, kernel_blocks, plain_blocks
from tests.oracles.window import inside, oracle, ranked_blocks, real_tokens
from tests.support.sequences import PADDINGS, gaussian
from tests.support.sizes import numbers_made

SETTINGS = {
    "sliding": Window(variant="sliding", width=7),
    "even and wide": Window(variant="sliding", width=10),
    "dilated": Window(variant="sliding", width=5, dilation=3),
    "sinks": Window(variant="sinks", width=6, sinks=3),
    "dilated sinks": Window(variant="sinks", width=4, sinks=5, dilation=2),
    "global": Window(variant="global", width=5, global_tokens=3),
    "bigbird": Window(variant="bigbird", width=5, global_tokens=2, random_blocks=2, block=4, seed=5),
    "chosen": Window(variant="selected", block=4, selected_blocks=2),
    "chosen and window": Window(variant="selected", block=5, selected_blocks=1, windowed=True, width=6),
    "one-token blocks": Window(variant="selected", block=1, selected_blocks=3),
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())


@settings
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_small_windows_agree_with_the_definition(setting, causal, padding):
    for n in (1, 2, 9, 33):
        sequence = gaussian(n, causal=causal, padding=padding, seed=n)
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        assert torch.equal(attended.kept(), seen)
        assert_close(attended.rows(), rows, rtol=1e-11, atol=1e-12)
        assert_close(attended.output, output, rtol=1e-11, atol=1e-12)


def check_explanation(setting, sequence, attended, head, query, key):
    """The reason and every fact of one pair, from the definition."""
    said = attended.explain(head, query, key)
    real = real_tokens(sequence)
    if query not in real or key not in real:
        assert said.reason is Reason.PADDING
        return
    if sequence.causal and key > query:
        assert said.reason is Reason.FUTURE
        return
    facts, block = said.facts, setting.block
    assert facts["distance"] == abs(query - key)
    first = real[
        : {"sinks": setting.sinks, "global": setting.global_tokens, "bigbird": setting.global_tokens}.get(setting.variant, 0)
    ]
    windowed = setting.variant != "selected" or setting.windowed
    if windowed and inside(setting, sequence, query, key):
        assert said.reason is WindowReason.IN_WINDOW and said.kept
        assert facts["width"] == setting.width
    elif key in first:
        assert said.reason is (WindowReason.SINK if setting.variant == "sinks" else WindowReason.GLOBAL) and said.kept
        assert (facts["place"], facts["of"]) == (first.index(key) + 1, len(first))
    elif query in first and setting.variant != "sinks":
        assert said.reason is WindowReason.GLOBAL and facts["whose"] == "query" and said.kept
    elif setting.variant == "selected" and key // block == query // block:
        assert said.reason is WindowReason.OWN_BLOCK and facts["block"] == key // block and said.kept
    elif setting.variant == "selected":
        ranking = [number for number, _ in ranked_blocks(setting, sequence, head, query)]
        rank = ranking.index(key // block) + 1
        kept = min(setting.selected_blocks, len(ranking))
        assert facts == {"distance": abs(query - key), "block": key // block, "rank": rank, "scored": len(ranking), "kept": kept}
        assert said.reason is (WindowReason.SELECTED_BLOCK if rank <= kept else WindowReason.NOT_SELECTED)
        assert said.kept == (rank <= kept)
    elif setting.variant == "bigbird" and key // block in attended.trace.random[query // block].tolist():
        assert said.reason is WindowReason.RANDOM_BLOCK and said.kept
        assert (facts["block"], facts["query_block"]) == (key // block, query // block)
    else:
        assert not said.kept and said.weight == 0
        steps = setting.width - 1 if sequence.causal else setting.width // 2
        assert facts["width"] == setting.width and facts["reach"] <= steps * setting.dilation
        inner = abs(query - key) <= steps * setting.dilation
        assert said.reason is (WindowReason.BETWEEN_STEPS if inner else WindowReason.TOO_FAR)
        assert inner == (facts["distance"] <= facts["reach"])


@settings
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_every_pair_is_explained_truly(setting, causal):
    sequence = gaussian(17, causal=causal, padding="holes", seed=4)
    attended = setting.attend(sequence)
    for query in range(17):
        for key in range(17):
            check_explanation(setting, sequence, attended, 1, query, key)


def test_a_window_counts_the_query_itself_and_is_not_one_late():
    """Local attention elsewhere has been one window late: under a mask w tokens are the query and the w − 1 before it."""
    seen = Window(variant="sliding", width=3).attend(gaussian(8)).kept()[0]
    assert seen[6].nonzero().flatten().tolist() == [4, 5, 6]
    seen = Window(variant="sliding", width=4).attend(gaussian(8, causal=False)).kept()[0]
    assert seen[4].nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


def test_padded_keys_take_no_mass_and_give_no_value():
    """Automatic padding must not join the softmax: huge padded keys and values change nothing."""
    sequence = gaussian(61, padding="holes")
    loud = {x: torch.where(sequence.real[:, None], getattr(sequence, x), 1e3) for x in ("q", "k", "v")}
    for setting in SETTINGS.values():
        quiet = setting.attend(sequence)
        heard = setting.attend(Sequence(**loud, causal=True, padding=sequence.padding))
        assert torch.equal(quiet.output, heard.output)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("padding", ["none", "left", "holes"])
@settings
def test_the_kernel_and_the_plain_form_agree(setting, causal, padding):
    """Float32 without gradients goes through torch's kernel, with gradients through the plain form."""
    sequence = gaussian(150, d=8, e=8, causal=causal, padding=padding, dtype=torch.float32)
    assert kernel_allowed(sequence.q, sequence.k, sequence.v)
    learning = Sequence(
        q=sequence.q.clone().requires_grad_(True), k=sequence.k, v=sequence.v, causal=causal, padding=sequence.padding
    )
    assert not kernel_allowed(learning.q, learning.k, learning.v)
    fast, plain = setting.attend(sequence).output, setting.attend(learning).output.detach()
    assert_close(fast, plain, rtol=1e-5, atol=1e-5)  # float32: sums in another order


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize(("n", "width"), [(1, 3), (33, 1), (100, 7), (513, 128), (300, 1000), (641, 320)])
def test_keys_read_where_they_stand_are_those_of_the_window(n, width, causal):
    # Heads that are a part of others: their numbers stand apart in memory.
    whole = gaussian(n, heads=3, d=8, e=8, causal=causal)
    sequence = Sequence(q=whole.q[1:], k=whole.k[1:], v=whole.v[1:], causal=causal)
    setting = Window(variant="sinks", width=width, sinks=2)
    plain, fast = setting.attend(sequence), setting.attend(sequence.to(dtype=torch.float32))
    assert kernel_allowed(*(getattr(sequence.to(dtype=torch.float32), name) for name in "qkv"))
    assert_close(fast.output.double(), plain.output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("padding", ["none", "holes"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_queries_sorted_by_their_blocks_get_their_own_results(causal, padding, windowed, monkeypatch):
    """Small tiles and chunks: a block's queries fill several tiles, the last one in part, and a query's chunk ends anywhere."""
    monkeypatch.setattr(chosen, "TOGETHER", 4)
    monkeypatch.setattr(chosen, "CELLS", 400)
    monkeypatch.setattr(chosen, "HELD", 900)
    sequence = gaussian(63, heads=3, d=8, e=8, causal=causal, padding=padding, seed=4)
    setting = Window(variant="selected", block=5, selected_blocks=3, windowed=windowed, width=9)
    attended = setting.attend(sequence)
    output, rows, _ = oracle(setting, sequence, attended.trace)
    assert_close(attended.output, output, rtol=1e-11, atol=1e-12)
    assert_close(attended.rows(), rows, rtol=1e-11, atol=1e-12)
    fast = setting.attend(sequence.to(dtype=torch.float32))
    expected, _, _ = oracle(setting, sequence, fast.trace)
    assert_close(fast.output.double(), expected, rtol=1e-4, atol=1e-5)


def test_chosen_blocks_are_gathered_for_many_queries_at_once():
    """For each query by itself the keys and values of its blocks would be 2048 · 4 · 32 · 16 · 2 numbers, in any order."""
    sequence = gaussian(2048, heads=1, d=16, e=16, dtype=torch.float32)
    setting = Window(variant="selected", block=32, selected_blocks=4)
    assert numbers_made(lambda: setting.attend(sequence)) < 2048 * 4 * 32 * 16 * 2


def test_the_kernel_gives_the_plain_output_and_logsumexp():
    source = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, 3, x, 8, generator=source) for x in (5, 700, 700))
    mask = torch.rand(1, 3, 5, 700, generator=source) < 0.4
    mask[0, 1, 2] = False
    for one, other in zip(kernel_blocks(q, k, v, mask), plain_blocks(q, k, v, mask), strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert kernel_blocks(q, k, v, mask)[1][0, 1, 2] == -math.inf


@settings
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(setting):
    base = gaussian(13, heads=1, d=3, e=2, padding="holes", seed=8)

    def output(q, k, v):
        return setting.attend(Sequence(q=q, k=k, v=v, causal=True, padding=base.padding)).output

    inputs = tuple(x.clone().requires_grad_(True) for x in (base.q, base.k, base.v))
    assert torch.autograd.gradcheck(output, inputs, eps=1e-6, atol=1e-7)


def test_random_blocks_lie_in_the_past_and_do_not_repeat():
    drawn = random_blocks(3, 40, 5, True)
    for own, row in enumerate(drawn.tolist()):
        blocks = [number for number in row if number >= 0]
        assert len(set(blocks)) == len(blocks) == min(5, own)
        assert all(number < own for number in blocks)
    anywhere = random_blocks(3, 40, 5, False)
    for own, row in enumerate(anywhere.tolist()):
        assert len(set(row)) == 5 and own not in row and min(row) >= 0 and max(row) < 40
    assert torch.equal(random_blocks(3, 25, 5, True), drawn[:25]), "a draw depends on the blocks that follow"
    assert not torch.equal(random_blocks(4, 40, 5, True), drawn)


def test_random_blocks_are_drawn_evenly():
    """Each of the 9 other blocks is drawn with chance 4/9: 2,000 seeds put each within 4.5 deviations of it."""
    counts = torch.zeros(10, 10)
    for seed in range(2000):
        drawn = random_blocks(seed, 10, 4, False)
        counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float32))
    deviation = math.sqrt(2000 * 4 / 9 * 5 / 9)
    off = (counts - 2000 * 4 / 9)[~torch.eye(10, dtype=torch.bool)]
    assert float(off.abs().max()) < 4.5 * deviation
    assert float(counts.diagonal().max()) == 0


def test_block_scores_do_not_see_the_own_block_nor_the_future():
    """A key of the query's own block, later than it, may not move which past blocks it chooses (scores of whole blocks would)."""
    setting, sequence = SETTINGS["chosen"], gaussian(40, seed=1)
    k = sequence.k.clone()
    k[:, 22] = 50.0
    before, after = setting.attend(sequence), setting.attend(Sequence(q=sequence.q, k=k, v=sequence.v, causal=True))
    assert torch.equal(before.trace.chosen[:, :22], after.trace.chosen[:, :22])
    assert torch.equal(before.trace.chosen[:, 22:24], after.trace.chosen[:, 22:24])


def test_equal_blocks_are_chosen_from_the_front():
    """Identical rows score all blocks the same: the choice must not hang on how many heads or rows are scored at once."""
    one = torch.full((3, 70, 4), 0.5, dtype=torch.float64)
    sequence = Sequence(q=one, k=one, v=gaussian(70, heads=3).v, causal=True)
    chosen = Window(variant="selected", block=8, selected_blocks=2).attend(sequence).trace.chosen
    assert chosen[:, 69].tolist() == [[0, 1]] * 3
    assert chosen[:, 8].tolist() == [[0, -1]] * 3


def test_the_memory_of_the_first_tokens_is_what_sinks_keep():
    """A head that parks its weight on token 0 loses it to a window and keeps it with sinks."""
    sequence = gaussian(120, heads=1, seed=6)
    k = sequence.k.clone()
    k[:, 0] = 5.0
    parked = Sequence(q=sequence.q.abs(), k=k, v=sequence.v, causal=True)
    kept = exact_rows(parked)[0, 119, 0]
    assert float(kept) > 0.9
    assert float(Window(variant="sliding", width=16).attend(parked).rows(119, 0, 0)) == 0
    assert float(Window(variant="sinks", width=12, sinks=4).attend(parked).rows(119, 0, 0)) >= float(kept)


def test_global_rows_do_not_widen_the_pooled_map():
    """Pooling with a few full rows among many gives the pooled rows, in both ways of joining, on any window."""
    sequence = gaussian(90, padding="holes", causal=False)
    attended = Window(variant="global", width=5, global_tokens=4).attend(sequence)
    rows = attended.rows()
    for reduce in ("mean", "max"):
        for first, tall in ((0, 2), (4, 1), (2, 20)):
            pooled = attended.pooled((first, first + 3 * tall), (0, 90), (3, 9), reduce)
            cells = rows[:, first : first + 3 * tall].unflatten(1, (3, tall)).unflatten(3, (9, 10))
            expected = cells.mean((2, 4)) if reduce == "mean" else cells.amax((2, 4))
            assert_close(pooled, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", ["sliding", "sinks", "global", "bigbird", "selected"])
def test_a_budget_is_about_what_the_last_query_looks_at(variant):
    sequence = gaussian(512, heads=1)
    for keys in (8, 64, 200):
        attended = Window(variant=variant).with_budget(keys, 512).attend(sequence)
        found = int(attended.kept(511).sum())
        assert 0.6 * keys <= found <= 1.3 * keys, (keys, found)
    assert Window().with_budget(64, 512) == Window(variant="sinks", width=60, sinks=4)


def test_cost_counts_the_pairs_of_the_pattern():
    sequence = gaussian(100, heads=3, d=8, e=6)
    sliding = Window(variant="sliding", width=10).attend(sequence)
    assert sliding.cost.multiply_adds == 14 * int(sliding.kept().sum())
    dilated = Window(variant="sliding", width=4, dilation=7).attend(gaussian(100, heads=3, causal=False))
    assert dilated.cost.multiply_adds == 14 * int(dilated.kept().sum())
    chosen = Window(variant="selected", block=10, selected_blocks=2).attend(sequence)
    pairs = 3 * (100 * 10 + 10 * 10 * (0 + 1 + 8 * 2))
    assert chosen.cost.multiply_adds == 14 * pairs + 3 * 100 * 10 * 8


def test_a_float64_or_foreign_input_takes_the_plain_form():
    for x in (torch.zeros(1, 1, 2, 4, dtype=torch.float64), torch.zeros(1, 1, 2, 4, device="meta")):
        assert not kernel_allowed(x, x, x)
    x = torch.zeros(1, 1, 2, 4)
    assert not kernel_allowed(x, x, torch.zeros(1, 1, 2, 3))


@pytest.mark.parametrize("variant", ["selected", "bigbird"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_block_longer_than_the_sequence_is_the_sequence(variant, causal):
    """It is one block, whatever its length: at 65,536 tokens its empty end would take 34 GB."""
    sequence = gaussian(20, causal=causal)
    whole, longest = (Window(variant=variant, block=block, width=4).attend(sequence) for block in (20, 65_536))
    assert torch.equal(longest.output, whole.output)
    assert torch.equal(longest.rows(), whole.rows())
    assert longest.cost == whole.cost
