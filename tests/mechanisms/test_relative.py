"""What is special about relative positions: distances, the skew, shifts, rotation, and what lies past the trained length."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Refused, Sequence
from longattn_core.contracts.mechanism import Reason
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.relative import Relative
from longattn_core.mechanisms.relative.distances import skew, t5_buckets
from longattn_core.mechanisms.relative.map import RelativeReason
from longattn_core.numerics.rotary import rotary_frequencies, rotate, unrotate
from tests.oracles.relative import bucket, content, oracle, score
from tests.support.sequences import PADDINGS, gaussian

SETTINGS = {
    "shaw": Relative(variant="shaw", clip=3),
    "shaw, half": Relative(variant="shaw", strength=0.5, seed=2),
    "music": Relative(variant="music"),
    "music, clipped": Relative(variant="music", longest=5, strength=0.7),
    "xl": Relative(variant="xl", strength=0.4),
    "t5": Relative(variant="t5", buckets=8, reach=8),
    "alibi": Relative(variant="alibi", strength=1.5),
    "rope": Relative(variant="rope"),
    "interpolated": Relative(variant="rope", scaling="interpolation", trained=16),
    "ntk": Relative(variant="rope", scaling="ntk", trained=16, strength=0.5),
    "yarn": Relative(variant="rope", scaling="yarn", trained=16),
    "yarn, half": Relative(variant="rope", scaling="yarn", trained=16, strength=0.5, base=100.0),
    "sinusoidal": Relative(variant="sinusoidal", strength=0.8),
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
masks = pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])


def rotated(n, base=500.0, start=0, **options):
    """Unit Gaussian heads turned by rotary positions, and the heads before."""
    plain = gaussian(n, **options)
    positions, frequencies = torch.arange(start, start + n), rotary_frequencies(plain.d, base)
    q, k = (rotate(x, positions, frequencies) for x in (plain.q, plain.k))
    return replace(plain, q=q, k=k, positions=positions, rotary=frequencies), plain


@settings
@masks
def test_settings_agree_with_the_definition(setting, causal):
    for n, padding in ((1, "none"), (2, "none"), (21, "holes"), (21, "left")):
        sequence = gaussian(n, causal=causal, padding=padding, seed=n)
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        assert torch.equal(attended.kept(), seen)
        assert_close(attended.rows(), rows, rtol=1e-9, atol=1e-11)
        assert_close(attended.output, output, rtol=1e-9, atol=1e-11)


@settings
def test_a_rotated_sequence_is_turned_back_first(setting):
    """Rotation is in the sequence's own layout: pairs (2t, 2t + 1), as the oracle turns them."""
    sequence, plain = rotated(19, start=7)
    attended, before = setting.attend(sequence), setting.attend(replace(plain, positions=sequence.positions))
    assert_close(attended.output, before.output, rtol=0, atol=1e-11)
    assert_close(attended.output, oracle(setting, sequence, attended.trace)[0], rtol=0, atol=1e-10)


def test_own_rotation_put_back_is_the_sequence_as_it_came():
    """RoPE at the sequence's own base undoes the undoing: exact attention of the rotated heads."""
    sequence, _ = rotated(33, base=300.0, start=5)
    attended = Relative(variant="rope", base=300.0).attend(sequence)
    assert_close(attended.rows(), exact_rows(sequence), rtol=0, atol=1e-11)
    halves = sequence.q.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
    other = replace(sequence, q=halves, k=sequence.k.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2))
    assert float((Relative(variant="rope", base=300.0).attend(other).rows() - exact_rows(other)).abs().max()) < 1e-11
    assert float((unrotate(halves, sequence.positions, sequence.rotary) - content(sequence)[0]).abs().max()) > 0.1


def test_the_limit_of_a_rotated_sequence_is_exact_attention_before_rotation():
    sequence, plain = rotated(40)
    for setting in SETTINGS.values():
        assert_close(setting.exact_setting(40).attend(sequence).rows(), exact_rows(plain), rtol=0, atol=1e-11)


@settings
@masks
def test_shifting_all_positions_moves_only_the_absolute_scheme(setting, causal):
    sequence = gaussian(24, causal=causal)
    shifted = replace(sequence, positions=sequence.positions + 1000)
    here, there = setting.attend(sequence), setting.attend(shifted)
    moved = float((here.added() - there.added()).abs().max())
    if setting.variant == "sinusoidal":
        assert moved > 0.1
    else:
        assert moved < 1e-9
        assert_close(here.output, there.output, rtol=0, atol=1e-9)


def test_a_call_with_other_positions_does_not_poison_the_next():
    sequence = gaussian(24)
    for setting in SETTINGS.values():
        first = setting.attend(sequence).output
        setting.attend(replace(sequence, positions=sequence.positions + 77))
        assert torch.equal(setting.attend(sequence).output, first)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("keys", [1, 2, 4, 9])
def test_the_skew_is_a_look_up_by_distance_on_both_sides_of_the_diagonal(rows, keys):
    """Transformer-XL's rel_shift leaves garbage above the diagonal; here every entry is the one of its distance."""
    logits = torch.randn(3, rows, keys + rows - 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shifted = skew(logits, keys)
    assert shifted.shape == (3, rows, keys)
    for i in range(rows):
        for j in range(keys):
            assert torch.equal(shifted[:, i, j], logits[:, i, j + rows - 1 - i])


@pytest.mark.parametrize("variant", ["music", "xl", "shaw", "alibi"])
@masks
def test_stretches_of_rows_join_without_a_seam(variant, causal, monkeypatch):
    """A few rows at a time, so that a stretch starts in the middle: output by the skew, rows by look-up."""
    sequence = gaussian(50, causal=causal, padding="holes")
    setting = Relative(variant=variant)
    whole = setting.attend(sequence)
    monkeypatch.setattr(
        "longattn_core.mechanisms.relative.plain.row_chunks", lambda n, width: [slice(a, min(a + 7, n)) for a in range(0, n, 7)]
    )
    parts = setting.attend(sequence)
    assert_close(parts.output, whole.output, rtol=0, atol=1e-12)
    offset = 0 if parts.offset is None else parts.offset
    assert_close(parts.rows() @ sequence.v + offset, parts.output, rtol=0, atol=1e-11)


def test_the_skew_never_holds_a_look_up_of_all_pairs(monkeypatch):
    """The long table is met once a row of distances: no gather by pairs when the output is made."""
    asked = []
    monkeypatch.setattr("longattn_core.mechanisms.relative.encoding.Encoding.table_row", lambda *given: asked.append(given))
    Relative(variant="music").attend(gaussian(30))
    Relative(variant="xl").attend(gaussian(30))
    assert not asked


@masks
def test_t5_buckets_are_those_of_the_transformers_library(causal):
    attention = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    lags = torch.arange(-400, 401)
    theirs = attention._relative_position_bucket(-lags, bidirectional=not causal, num_buckets=32, max_distance=128)
    ours = t5_buckets(lags, causal, 32, 128)
    assert torch.equal(ours, theirs)
    assert int(ours.max()) == 31 and len(ours.unique()) == (32 if causal else 31)  # distance 0 has no twin ahead


@masks
@pytest.mark.parametrize(("buckets", "reach"), [(32, 128), (8, 8), (4, 8), (64, 1000), (256, 16)])
def test_t5_buckets_begin_at_whole_powers(causal, buckets, reach):
    lags = torch.arange(-1100, 1101)
    assert t5_buckets(lags, causal, buckets, reach).tolist() == [bucket(lag, causal, buckets, reach) for lag in lags.tolist()]


def test_alibi_slopes_follow_the_heads_numbers():
    sequence = replace(gaussian(10, heads=2), heads=(3, 7), total_heads=8)
    attended = Relative(variant="alibi").attend(sequence)
    assert_close(attended.trace.slopes, torch.tensor([2.0**-4, 2.0**-8], dtype=torch.float64), rtol=0, atol=0)
    assert_close(attended.added(9, 2)[:, 0, 0], torch.tensor([-7 / 16, -7 / 256], dtype=torch.float64), rtol=0, atol=1e-12)


def test_rotation_of_distance_zero_is_none_and_lengths_stay():
    frequencies = rotary_frequencies(8, 10000.0)
    assert_close(frequencies, torch.tensor([1, 0.1, 0.01, 0.001], dtype=torch.float64), rtol=1e-14, atol=0)
    x = gaussian(5).q
    turned = rotate(x, torch.tensor([0, 3, 3, 900, 100000]), frequencies)
    assert torch.equal(turned[:, 0], x[:, 0])
    assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-13, atol=0)
    assert_close(unrotate(turned, torch.tensor([0, 3, 3, 900, 100000]), frequencies), x, rtol=0, atol=1e-12)
    first = torch.tensor([[[1.0, 0, 0, 0, 0, 0, 0, 0]]])
    expected = torch.tensor([math.cos(2), math.sin(2), 0, 0, 0, 0, 0, 0])
    assert_close(rotate(first, torch.tensor([2]), frequencies)[0, 0], expected, rtol=1e-6, atol=1e-7)
    for wrong in (torch.ones(3), torch.ones(8)):
        with pytest.raises(ValueError, match="channels"):
            rotate(x, torch.arange(5), wrong)
    with pytest.raises(ValueError, match="must be even, found 7"):
        rotary_frequencies(7, 10000.0)


def test_what_scaling_does_past_the_trained_length():
    """Interpolation slows every pair; NTK and YaRN leave the fastest as they are and slow the slowest by the whole ratio."""
    sequence = gaussian(64, d=64)
    angles = {
        scaling: Relative(variant="rope", scaling=scaling, trained=16).attend(sequence).trace
        for scaling in ("none", "interpolation", "ntk", "yarn")
    }
    plain = angles["none"].frequencies
    assert_close(angles["interpolation"].frequencies, plain / 4, rtol=1e-14, atol=0)
    assert_close(angles["ntk"].frequencies[[0, -1]], plain[[0, -1]] / torch.tensor([1.0, 4.0]), rtol=1e-12, atol=0)
    long = gaussian(4096, d=64, heads=1, e=1)
    yarn = Relative(variant="rope", scaling="yarn", trained=1024)
    trace = yarn.trace(long)
    turns = 1024 * plain / (2 * math.pi)
    assert torch.equal(trace.frequencies[turns > 32], plain[turns > 32])
    assert_close(trace.frequencies[turns < 1], plain[turns < 1] / 4, rtol=1e-14, atol=0)
    assert trace.temperature == (0.1 * math.log(4) + 1) ** 2
    within = Relative(variant="rope", scaling="yarn", trained=64).attend(sequence)
    assert torch.equal(within.output, Relative(variant="rope").attend(sequence).output)


@settings
def test_the_bias_curve_is_what_the_mean_query_meets(setting):
    """The mean over queries of what a key at distance δ would get, from one query at a time."""
    sequence = gaussian(12, causal=False)
    attended = setting.attend(sequence)
    bias = attended.trace.bias
    assert bias.shape == (2, 23)
    mean_q, mean_k = sequence.q.mean(1, keepdim=True), sequence.k.mean(1, keepdim=True)
    if setting.variant in ("t5", "alibi"):
        source = sequence
    elif setting.variant == "sinusoidal":
        source = replace(sequence, q=sequence.q * 0, k=sequence.k * 0)
    else:
        source = replace(sequence, q=mean_q.expand(-1, 12, -1), k=mean_k.expand(-1, 12, -1))
    added = setting.attend(source).added()
    if setting.variant == "xl":
        added = added - setting.strength * (source.k @ attended.trace.u)[:, None] / math.sqrt(8)
    for query in range(12):
        for key in range(12):
            assert_close(bias[:, query - key + 11], added[:, query, key], rtol=0, atol=1e-11)


@settings
def test_every_pair_is_explained_truly(setting):
    sequence, _ = rotated(12, padding="holes", causal=setting.variant != "t5")
    attended = setting.attend(sequence)
    q, k = content(sequence)
    weights = oracle(setting, sequence, attended.trace)[1]
    before = exact_rows(replace(sequence, q=q, k=k))
    for query in range(12):
        for key in range(12):
            check_explanation(setting, sequence, attended, (q, k, weights, before), 1, query, key)


def check_explanation(setting, sequence, attended, known, head, query, key):
    said = attended.explain(head, query, key)
    if not (sequence.padding[query] and sequence.padding[key]):
        assert said.reason is Reason.PADDING
        return
    if sequence.causal and key > query:
        assert said.reason is Reason.FUTURE
        return
    q, k, weights, before = known
    plain = float(q[head, query] @ k[head, key]) / math.sqrt(sequence.d)
    full = float(score(setting, sequence, attended.trace, q, k, head, query, key))
    share, was = float(weights[head, query, key]), float(before[head, query, key])
    expected = {"distance": query - key, "bias": full - plain, "content": plain, "before": was, "after": share}
    assert said.facts.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(said.facts[name], value, rel_tol=1e-8, abs_tol=1e-10), name
    assert said.kept and isinstance(said.facts["distance"], int)
    if abs(share - was) > 1e-5 * was:
        assert said.reason is (RelativeReason.RAISED if share > was else RelativeReason.LOWERED)


def test_only_value_vectors_leave_an_offset():
    sequence = gaussian(20)
    for setting in SETTINGS.values():
        attended = setting.attend(sequence)
        assert (attended.offset is None) == (setting.variant != "shaw")
    shaw = SETTINGS["shaw"].attend(sequence)
    assert float(shaw.offset.abs().max()) > 0.1


@pytest.mark.parametrize("padding", PADDINGS)
def test_padding_leaves_no_offset(padding):
    sequence = gaussian(20, padding=padding)
    attended = SETTINGS["shaw"].attend(sequence)
    assert not bool(attended.offset[:, ~sequence.real].any())


@settings
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(setting):
    base = gaussian(9, heads=1, d=4, e=2, padding="holes", causal=setting.variant != "music")

    def output(q, k, v):
        return setting.attend(Sequence(q=q, k=k, v=v, causal=base.causal, padding=base.padding)).output

    inputs = tuple(x.clone().requires_grad_(True) for x in (base.q, base.k, base.v))
    assert torch.autograd.gradcheck(output, inputs, eps=1e-6, atol=1e-7)


def test_refusals_name_what_is_in_the_way():
    odd = gaussian(6, d=5)
    with pytest.raises(Refused, match="must be even; it is 5"):
        Relative(variant="rope").attend(odd)
    gaps = replace(gaussian(6), positions=torch.tensor([0, 1, 2, 5, 6, 7]))
    for variant in ("music", "xl"):
        with pytest.raises(Refused, match="consecutive positions"):
            Relative(variant=variant).attend(gaps)
    for name in ("shaw", "t5", "alibi", "rope", "sinusoidal"):
        attended = SETTINGS[name].attend(gaps)
        assert_close(attended.output, oracle(SETTINGS[name], gaps, attended.trace)[0], rtol=0, atol=1e-11)
    for variant in ("shaw", "music", "xl", "t5", "alibi", "sinusoidal"):
        attended = Relative(variant=variant).attend(odd)
        assert_close(attended.output, oracle(Relative(variant=variant), odd, attended.trace)[0], rtol=0, atol=1e-11)
