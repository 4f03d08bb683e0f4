"""Segmented attention: where the cuts fall, what crosses them, and sentences that say so truly."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Refused, Sequence
from longattn_core.contracts.sequence import Levels, exact_rows
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.mechanisms.segmented.integration import fixed_starts, sentence_starts
from longattn_core.mechanisms.segmented.map import SegmentedReason
from tests.oracles.segmented import oracle, segments_of
from tests.support.sentences import numbers_said
from tests.support.sequences import gaussian
from tests.support.sizes import largest_tensor

VARIANTS = ("none", "summaries", "second", "overlap", "shifted")
every_variant = pytest.mark.parametrize("variant", VARIANTS)
both_masks = pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])


@pytest.mark.parametrize("padding", ["none", "holes", "left"])
@both_masks
@pytest.mark.parametrize("counts", ["one", "tokens"])
@every_variant
def test_every_dial_agrees_with_the_definition(variant, counts, causal, padding):
    for boundaries, width in (("fixed", 1), ("fixed", 7), ("sentences", 4), ("sentences", 16), ("fixed", 64)):
        setting = Segmented(variant=variant, width=width, boundaries=boundaries, counts=counts, overlap=3)
        sequence = gaussian(33, causal=causal, padding=padding, heads=1)
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        # Both are float64; only the order of the sums differs.
        assert_close(attended.output, output, rtol=1e-10, atol=1e-12)
        assert_close(attended.rows(), rows, rtol=1e-10, atol=1e-12)
        assert torch.equal(attended.kept(), seen)


def test_fixed_cuts():
    assert fixed_starts(10, 4, 4) == [0, 4, 8]
    assert fixed_starts(10, 4, 2) == [0, 2, 6]
    assert fixed_starts(3, 8, 8) == [0]
    assert fixed_starts(3, 1, 1) == [0, 1, 2]


@pytest.mark.parametrize(
    ("lengths", "width", "first", "starts"),
    [
        ((3, 3, 3, 3), 6, 6, [0, 6]),
        ((3, 3, 3, 3), 7, 7, [0, 6]),
        ((3, 3, 3, 3), 6, 3, [0, 3, 9]),
        ((4, 4), 6, 3, [0, 4]),
        ((10, 1, 1), 4, 4, [0, 4, 8]),
        ((2, 10, 1), 4, 4, [0, 2, 6, 10]),
        ((1,), 5, 5, [0]),
    ],
)
def test_sentences_are_packed_whole_while_they_fit(lengths, width, first, starts):
    sentence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    assert sentence_starts(sentence, width, first) == starts


def test_sentence_cuts_need_sentences():
    setting = Segmented(boundaries="sentences")
    bare = replace(gaussian(9), levels=None)
    with pytest.raises(Refused, match="does not say where its sentences end"):
        setting.attend(bare)
    assert setting.depends_on_future.endswith(".")
    assert Segmented().depends_on_future is None


def test_sentence_numbers_may_skip():
    """A text's levels start at 0 and never fall, but a number may be missing."""
    sequence = gaussian(12)
    skipping = torch.tensor([0, 0, 0, 2, 2, 2, 2, 5, 5, 5, 9, 9])
    dense = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3])
    setting = Segmented(boundaries="sentences", width=5)
    outputs = [
        setting.attend(replace(sequence, levels=Levels(sentence=s, paragraph=torch.zeros_like(s)))).output
        for s in (skipping, dense)
    ]
    assert torch.equal(*outputs)


@every_variant
def test_a_prefix_is_read_as_it_was(variant):
    """Under a causal mask what follows changes nothing, wherever it begins: also in the middle of a segment."""
    sequence = gaussian(70, padding="holes")
    setting = Segmented(variant=variant, width=8, overlap=5)
    whole = setting.attend(sequence).output
    for n in (1, 8, 9, 15, 41, 64):
        assert_close(setting.attend(sequence.prefix(n)).output, whole[:, :n], rtol=0, atol=1e-12)


@both_masks
@every_variant
def test_what_stands_in_padding_changes_nothing(variant, causal):
    """Ragged ends and holes are masked, not filled with keys of zero that would take their share."""
    sequence = gaussian(37, causal=causal, padding="holes")
    wild = gaussian(37, seed=5, scale=1e3)
    hole = ~sequence.real[:, None]
    changed = replace(sequence, **{x: torch.where(hole, getattr(wild, x), getattr(sequence, x)) for x in ("q", "k", "v")})
    setting = Segmented(variant=variant, width=10, overlap=4)
    assert torch.equal(setting.attend(sequence).output, setting.attend(changed).output)
    ragged = Sequence(
        q=torch.cat([sequence.q, wild.q[:, :3]], 1),
        k=torch.cat([sequence.k, wild.k[:, :3]], 1),
        v=torch.cat([sequence.v, wild.v[:, :3]], 1),
        causal=causal,
        padding=torch.cat([sequence.real, torch.zeros(3, dtype=torch.bool)]),
    )
    assert_close(setting.attend(ragged).output[:, :37], setting.attend(sequence).output, rtol=0, atol=1e-12)


@both_masks
def test_summaries_of_equal_keys_are_exact_when_they_count_as_their_tokens(causal):
    """If all keys of a segment are one, its mean loses nothing: with ln N, and only with it, this is exact attention."""
    sequence = gaussian(40, causal=causal)
    sequence = replace(sequence, k=sequence.k[:, torch.arange(40) // 8 * 8])
    exact = exact_rows(sequence)
    tokens = Segmented(variant="summaries", width=8, counts="tokens").attend(sequence)
    assert_close(tokens.rows(), exact, rtol=1e-11, atol=1e-12)
    one = Segmented(variant="summaries", width=8, counts="one").attend(sequence)
    assert float((one.rows() - exact).abs().max()) > 0.01


@both_masks
def test_the_first_segment_reads_no_summary_of_the_future(causal):
    """The second attention asks with the segment's own mean query only where that mean is no news from the future."""
    sequence = gaussian(24, causal=causal)
    attended = Segmented(variant="second", width=8).attend(sequence)
    outside = attended.rows()[:, :8, 8:].sum()
    if causal:
        assert float(outside) == 0
    else:
        assert float(outside) > 0.1
    trace = attended.trace
    root = math.sqrt(sequence.d)
    context, asking = ([0, 1], 1) if causal else ([0, 1], 2)
    scores = trace.summary_keys[:, context] @ trace.summary_queries[:, asking, :, None] / root + math.log(8)
    beta = scores.softmax(1)
    assert_close(trace.integrated_values[:, 2], (beta * trace.summary_values[:, context]).sum(1), rtol=1e-11, atol=1e-12)


def test_shifting_moves_every_cut_by_half_a_width():
    sequence = gaussian(64)
    plain, shifted = Segmented(width=16).attend(sequence), Segmented(variant="shifted", width=16).attend(sequence)
    assert plain.trace.boundaries.tolist() == [0, 16, 32, 48, 64]
    assert shifted.trace.boundaries.tolist() == [0, 8, 24, 40, 56, 64]
    assert shifted.trace.unshifted.tolist() == plain.trace.boundaries.tolist()
    both = plain.kept() | shifted.kept()
    reach = (both[0].double() @ both[0].double())[63].nonzero().min()
    assert int(plain.kept(63, None, 0)[0, 0].nonzero().min()) == 48
    assert int(reach) == 40, "two layers, one of them shifted, cross a cut"


@both_masks
@every_variant
@pytest.mark.slow
def test_every_explanation_is_true(variant, causal):
    setting = Segmented(variant=variant, width=4, overlap=3)
    sequence = gaussian(14, causal=causal, padding="holes", heads=1)
    attended = setting.attend(sequence)
    rows = oracle(setting, sequence, attended.trace)[1][0]
    reasons = set()
    for query in sequence.real.nonzero().flatten().tolist():
        for key in sequence.real.nonzero().flatten().tolist():
            if key <= query or not causal:
                reasons.add(check_explanation(attended, rows, query, key))
    expected = {
        "none": {SegmentedReason.OTHER_SEGMENT},
        "summaries": {SegmentedReason.SUMMARY},
        "second": {SegmentedReason.INTEGRATED},
        "overlap": {SegmentedReason.OVERLAP, SegmentedReason.OTHER_SEGMENT},
        "shifted": {SegmentedReason.SHIFTED, SegmentedReason.OTHER_SEGMENT},
    }[variant]
    assert reasons == expected | {SegmentedReason.SAME_SEGMENT}


def check_explanation(attended, rows, query, key):
    """Every fact against the oracle's rows and segments; gives the reason back."""
    setting, sequence = attended.mechanism, attended.sequence
    said = attended.explain(0, query, key)
    facts = said.facts
    segments = segments_of(setting, sequence)
    own, other = (next(i for i, segment in enumerate(segments) if token in segment) for token in (query, key))
    real = sequence.real
    assert said.weight == pytest.approx(float(rows[query, key]), rel=1e-9)
    # The 1 is that of "1/5 of it"; a cut is said by the tokens on its two sides.
    assert numbers_said(said) <= {"1", str(facts.get("cut", 1) - 1)}
    if said.reason in {SegmentedReason.SUMMARY, SegmentedReason.INTEGRATED}:
        assert own != other
        assert (facts["segment"], facts["start"], facts["end"]) == (other, segments[other][0], segments[other][-1])
        assert facts["size"] == sum(bool(real[token]) for token in segments[other])
        assert facts["summary_weight"] == pytest.approx(float(rows[query, segments[other]].sum()), rel=1e-9)
        assert facts["summary_weight"] / facts["size"] == pytest.approx(said.weight, rel=1e-9)
        if said.reason is SegmentedReason.INTEGRATED:
            total = float(rows[query].sum() - rows[query, segments[own]].sum())
            assert facts["integrated_weight"] == pytest.approx(total, rel=1e-8)
            assert facts["integrated_weight"] * facts["part"] == pytest.approx(facts["summary_weight"], rel=1e-9)
        return said.reason
    assert (facts["start"], facts["end"]) == (segments[own][0], segments[own][-1])
    if said.reason is SegmentedReason.OTHER_SEGMENT:
        assert not said.kept
        starts = [segment[0] for segment in segments]
        assert facts["cut"] in starts
        assert min(query, key) < facts["cut"] <= max(query, key)
        assert facts["cuts"] == sum(min(query, key) < start <= max(query, key) for start in starts)
        lost = exact_rows(sequence, query, 0)[0, 0][rows[query] == 0].sum()
        assert facts["severed"] == pytest.approx(float(lost), rel=1e-9)
        return said.reason
    assert said.kept
    outside = max(segments[own][0] - key, key - segments[own][-1], 0)
    unshifted = {x[0] for x in segments_of(setting, sequence, shifted=False)}
    if said.reason is SegmentedReason.OVERLAP:
        assert facts["beyond"] == outside
        assert 0 < outside <= setting.overlap
    elif said.reason is SegmentedReason.SHIFTED:
        assert facts["cut"] in unshifted
        assert min(query, key) < facts["cut"] <= max(query, key)
    else:
        assert own == other == facts["segment"]
        if setting.variant == "shifted":
            assert not any(min(query, key) < start <= max(query, key) for start in unshifted)
    items = int((rows[query] > 0).sum())
    if setting.variant in {"summaries", "second"}:
        items = int((rows[query, segments[own]] > 0).sum())
        blocks = [i for i, segment in enumerate(segments) if i != own and float(rows[query, segment].sum()) > 0]
        items += min(1, len(blocks)) if setting.variant == "second" else len(blocks)
    assert facts["items"] == items == attended.read_count(0, query).count
    return said.reason


@both_masks
@every_variant
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(variant, causal):
    sequence = gaussian(9, heads=1, d=2, e=2, causal=causal, padding="holes")
    setting = Segmented(variant=variant, width=4, overlap=2)

    def output(q, k, v):
        return setting.attend(replace(sequence, q=q, k=k, v=v)).output

    inputs = tuple(x.clone().requires_grad_(True) for x in (sequence.q, sequence.k, sequence.v))
    assert torch.autograd.gradcheck(output, inputs)


@every_variant
def test_nothing_of_size_n_by_n_is_ever_made(variant):
    sequence = gaussian(8192, heads=1, d=4, e=4, dtype=torch.float32, calibrated=False)
    setting = Segmented(variant=variant, width=96)
    assert largest_tensor(lambda: setting.attend(sequence)) <= 2 * 8192 * (96 + 86 + 16)


def test_cost_is_what_the_blocks_hold():
    sequence = gaussian(256, heads=2, d=8, e=6, causal=False)
    assert Segmented(width=64).attend(sequence).cost.multiply_adds == 2 * 256 * 64 * (8 + 6)
    summed = Segmented(variant="summaries", width=64).attend(sequence).cost.multiply_adds
    assert summed == 2 * (256 * (64 + 4) * (8 + 6) + 256 * (8 + 8 + 6))


@pytest.mark.parametrize("keys", [64, 100, 200, 512])
@every_variant
def test_the_budget_is_what_a_full_segment_looks_at(variant, keys):
    setting = Segmented(variant=variant).with_budget(keys, 512)
    attended = setting.attend(gaussian(512, heads=1, d=2, e=1, calibrated=False))
    most = max(attended.read_count(0, query).count for query in range(511, 0, -1))
    assert 0.9 * keys <= most <= 1.05 * keys
