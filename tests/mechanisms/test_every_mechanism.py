"""What every mechanism must hold, looped over the registry: a new one is tested by being there."""

import importlib
import itertools
import math
from typing import Literal, get_args, get_origin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from longattn_core import MECHANISMS, Refused, Sequence, mechanism
from longattn_core.contracts.indexing import edges
from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import exact_rows
from tests.support.sequences import PADDINGS, gaussian

LENGTHS = (1, 2, 63, 64, 65, 257)
SETTINGS = [setting for kind in MECHANISMS.values() for setting in kind.variants()]

# Named exceptions, each with its reason: MECHANISMS that do not do what the others do, and why.
NOT_SHARES = {
    "low_rank svd": "a truncated SVD has negative entries",
    "low_rank nystrom": "a product with a pseudo-inverse has negative entries",
    "low_rank linformer": "a Gaussian projection mixes keys with signs; only pooling by means gives shares",
    "favor trigonometric": "sines and cosines estimate a positive kernel with signed features",
    "routed capsules": "the couplings depend on the values and squashing shrinks them",
    "memory delta": "the delta rule subtracts what a key already holds",
}


def name_of(setting: Mechanism) -> str:
    shown = {k: v for k, v in setting.model_dump().items() if v != type(setting).model_fields[k].default}
    return " ".join([setting.key, *(f"{v}" if k == "variant" else f"{k}={v}" for k, v in shown.items())])


every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=name_of)


def read(setting, sequence):
    """What the mechanism gives, or None when it refuses in one sentence."""
    if (sentence := setting.refuses(sequence)) is not None:
        assert 10 < len(sentence) < 400 and sentence.endswith("."), sentence
        with pytest.raises(Refused, match=sentence[:20].replace("(", r"\(").replace("×", ".")):
            setting.attend(sequence)
        return None
    return setting.attend(sequence)


def readable(setting, n, **options):
    """A sequence of n tokens that this setting reads: causal where it can be."""
    for causal in (True, False):
        sequence = gaussian(n, causal=causal, **options)
        if setting.refuses(sequence) is None:
            return sequence
    raise AssertionError(f"{setting!r} refuses both a causal and an unmasked sequence")


def reconstructed(attended):
    rows = attended.rows() @ attended.sequence.v
    return rows if attended.offset is None else rows + attended.offset


@pytest.mark.usefixtures("_shapes_unchecked")
@every_setting
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("n", LENGTHS)
def test_rows_times_values_are_the_output(setting, causal, n):
    for padding in PADDINGS if n < 200 else ("none", "holes"):
        sequence = gaussian(n, causal=causal, padding=padding)
        attended = read(setting, sequence)
        if attended is None:
            continue
        assert attended.output.shape == sequence.v.shape
        assert bool(torch.isfinite(attended.output).all())
        assert_close(reconstructed(attended), attended.output, rtol=1e-10, atol=1e-10)
        rows, seen = attended.rows(), attended.kept()
        outside = ~sequence.allowed()
        assert not bool(seen[:, outside].any()), "a pair that the mask hides is reported as seen"
        if setting.depends_on_future is None or causal is False:
            assert not bool((rows[:, outside] != 0).any()), "a pair that the mask hides has weight"
        assert not bool((rows[~seen] != 0).any()), "a pair that was never looked at has weight"
        if sequence.padding is not None:
            assert not bool((attended.output[:, ~sequence.real] != 0).any()), "a padded query has an output"


@every_setting
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_independent_oracle_agrees(setting, causal, padding):
    """Output, weights and what was seen equal those of a plain float64 implementation from the definition."""
    oracle = importlib.import_module(f"tests.oracles.{setting.key}").oracle
    for n in (1, 2, 17, 65):
        sequence = gaussian(n, causal=causal, padding=padding, seed=n)
        attended = read(setting, sequence)
        if attended is None:
            continue
        output, rows, seen = oracle(setting, sequence, attended.trace)
        assert_close(attended.output, output, rtol=1e-8, atol=1e-9)
        assert_close(attended.rows(), rows, rtol=1e-8, atol=1e-9)
        assert torch.equal(attended.kept(), seen)


@every_setting
def test_float32_is_float64_to_single_precision(setting):
    sequence = readable(setting, 130, seed=3)
    fine, coarse = setting.attend(sequence), setting.attend(sequence.to(dtype=torch.float32))
    assert coarse.output.dtype == torch.float32
    # A choice (a bucket, a top-k) may fall the other way for a tie within rounding: the median row may not move.
    difference = (coarse.output.double() - fine.output).norm(dim=-1) / fine.output.norm(dim=-1).clamp_min(1e-3)
    assert float(difference.median()) < 1e-4


@every_setting
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_weights_are_shares_or_say_why_not(setting, causal):
    known = [reason for name, reason in NOT_SHARES.items() if set(name.split()) <= set(described(setting))]
    if setting.not_stochastic is not None:
        assert known, f"{name_of(setting)} has rows that are no shares, and no named exception: {setting.not_stochastic}"
        return
    for n in LENGTHS:
        sequence = gaussian(n, causal=causal, padding="holes")
        attended = read(setting, sequence)
        if attended is None:
            continue
        rows = attended.rows()
        assert float(rows.min()) >= 0
        assert_close(rows.sum(-1), sequence.real.double().expand(sequence.h, -1), rtol=1e-10, atol=1e-10)


def described(setting):
    return [setting.key, *(str(value) for value in setting.model_dump().values())]


@pytest.mark.usefixtures("_shapes_unchecked")
@every_setting
def test_nothing_leaks_from_the_future(setting):
    """Change everything after a cut: nothing before the cut may move."""
    for seed, cut in ((0, 40), (1, 64), (2, 93)):
        past = gaussian(130, seed=seed)
        if setting.refuses(past) is not None:
            pytest.skip("refuses a causal mask")
        other = gaussian(130, seed=seed + 50, scale=3.0, calibrated=False)
        kept = torch.arange(130) < cut
        future = {x: torch.where(kept[:, None], getattr(past, x), getattr(other, x)) for x in ("q", "k", "v")}
        changed = Sequence(**future, causal=True, levels=past.levels, calibration=past.calibration)
        before, after = setting.attend(past), setting.attend(changed)
        moved = float((before.output - after.output)[:, :cut].abs().max())
        if setting.depends_on_future is None:
            assert moved < 1e-12, f"the past moved by {moved:.2g} when the future changed"
            assert_close(before.rows(slice(0, cut)), after.rows(slice(0, cut)), rtol=0, atol=1e-12)


@every_setting
def test_nothing_leaks_without_a_calibration_either(setting):
    past = gaussian(90, calibrated=False)
    if setting.refuses(past) is not None or setting.depends_on_future is not None:
        pytest.skip("refuses a causal mask, or says that it leaks")
    other = gaussian(90, seed=9, calibrated=False, scale=4.0)
    kept = torch.arange(90)[:, None] < 50
    future = {x: torch.where(kept, getattr(past, x), getattr(other, x)) for x in ("q", "k", "v")}
    before, after = setting.attend(past), setting.attend(Sequence(**future, causal=True, levels=past.levels))
    assert_close(before.output[:, :50], after.output[:, :50], rtol=0, atol=1e-12)


@pytest.mark.parametrize("key", list(MECHANISMS))
def test_the_default_does_not_leak(key):
    leaking = [setting for setting in MECHANISMS[key].variants() if setting.depends_on_future is not None]
    assert all(setting.depends_on_future.endswith(".") for setting in leaking)
    assert key == "low_rank" or MECHANISMS[key]().depends_on_future is None, "only the SVD yardstick may leak by default, by name"


@pytest.mark.usefixtures("_shapes_unchecked")
@every_setting
@pytest.mark.parametrize("n", (1, 2, 63, 64, 65, 200))
def test_limit_is_exact_attention(setting, n):
    limit = setting.exact_setting(n)
    if limit is None:
        assert setting.no_exact_setting and setting.no_exact_setting.endswith("."), "no limit, and no reason"
        return
    assert setting.no_exact_setting is None
    tolerance = 1e-8 if "nystrom" in described(setting) else 1e-10
    for causal in (True, False):
        sequence = gaussian(n, causal=causal, seed=n)
        if limit.refuses(sequence) is not None:
            continue
        exact = exact_rows(sequence) @ sequence.v
        attended = limit.attend(sequence)
        assert_close(attended.output, exact, rtol=0, atol=tolerance)
        assert_close(attended.rows(), exact_rows(sequence), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("_shapes_unchecked")
@every_setting
def test_ladder_does_not_get_worse(setting):
    # What is fitted varies less from seed to seed than what is drawn, and takes longer.
    n, seeds = 96, 20 if setting.parameters == "random draw" else 8
    rungs = setting.ladder(n)
    assert len(rungs) >= 1
    sequences = [readable(rungs[0], n, heads=1, seed=seed) for seed in range(seeds)]
    exact = [exact_rows(s) @ s.v for s in sequences]
    medians = []
    for rung in rungs:
        reseeded = [rung.with_dials(seed=seed) for seed in range(seeds)]
        errors = [float((r.attend(s).output - o).norm() / o.norm()) for r, s, o in zip(reseeded, sequences, exact, strict=True)]
        medians.append(sorted(errors)[seeds // 2])
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(medians)), medians


@every_setting
def test_the_same_seed_gives_the_same_bits(setting):
    sequence = readable(setting, 100)
    first, second = setting.attend(sequence), setting.attend(sequence)
    assert torch.equal(first.output, second.output)
    assert torch.equal(first.rows(), second.rows())


@every_setting
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_batch_of_heads_is_its_heads_one_by_one(setting, dtype):
    sequence = readable(setting, 100, heads=3, dtype=dtype)
    together = setting.attend(sequence)
    for head in range(3):
        alone = setting.attend(sequence.select_heads(head))
        tolerance = 1e-11 if dtype == torch.float64 else 2e-5
        assert_close(together.output[head], alone.output[0], rtol=tolerance, atol=tolerance)
        assert_close(together.rows(heads=head)[0], alone.rows()[0], rtol=tolerance, atol=tolerance)


@every_setting
def test_gradients_flow(setting):
    sequence = readable(setting, 70)
    tensors = {x: getattr(sequence, x).clone().requires_grad_(True) for x in ("q", "k", "v")}
    learning = Sequence(**tensors, causal=sequence.causal, levels=sequence.levels, calibration=sequence.calibration)
    output = setting.attend(learning).output
    assert_close(output.detach(), setting.attend(sequence).output, rtol=1e-9, atol=1e-9)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    if not output.requires_grad:
        assert not setting.differentiable
        return
    gradients = torch.autograd.grad((output * weights).sum(), list(tensors.values()), allow_unused=True)
    for name, gradient in zip(tensors, gradients, strict=True):
        if gradient is None or not setting.differentiable:
            assert not setting.differentiable, f"no gradient reaches {name}"
            continue
        assert bool(torch.isfinite(gradient).all())
        assert float(gradient.abs().max()) > 0


@every_setting
def test_views_of_a_part_are_parts_of_the_whole(setting):
    sequence = readable(setting, 130, padding="holes")
    attended = setting.attend(sequence)
    rows = attended.rows()
    assert_close(attended.rows([7, 120], slice(3, 50), 1), rows[1:, [7, 120], 3:50], rtol=1e-12, atol=1e-12)
    assert torch.equal(attended.kept([7, 120], slice(3, 50), 1), attended.kept()[1:, [7, 120], 3:50])
    for none in (attended.rows([]), attended.kept([]), *attended.rows_and_kept([])):
        assert none.shape == (len(rows), 0, 130)
    both = attended.rows_and_kept([7, 120], 1)
    assert torch.equal(both[0], attended.rows([7, 120], heads=1))
    assert torch.equal(both[1], attended.kept([7, 120], heads=1))


@every_setting
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_pooled_maps_are_pooled_rows(setting, reduce):
    sequence = readable(setting, 130, padding="holes")
    attended = setting.attend(sequence)
    rows = attended.rows()
    for queries, keys, shape in (((0, 130), (0, 130), (13, 7)), ((40, 97), (5, 61), (9, 200)), ((129, 130), (0, 3), (4, 1))):
        pooled = attended.pooled(queries, keys, shape, reduce)
        tops, sides = edges(*queries, shape[0]), edges(*keys, shape[1])
        assert pooled.shape == (2, len(tops) - 1, len(sides) - 1)
        for r, (r0, r1) in enumerate(itertools.pairwise(tops)):
            for c, (c0, c1) in enumerate(itertools.pairwise(sides)):
                block = rows[:, r0:r1, c0:c1]
                expected = block.mean((1, 2)) if reduce == "mean" else block.amax((1, 2))
                assert_close(pooled[:, r, c], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("_shapes_unchecked")
@every_setting
def test_explanations_say_what_the_map_says(setting):
    sequence = readable(setting, 34, padding="holes")
    attended = setting.attend(sequence)
    rows, seen, exact = attended.rows(), attended.kept(), exact_rows(sequence)
    for query in range(0, 34, 3):
        # A third of the keys, another third for the next query: every kind of pair, near and far, before and after.
        for key in range(query // 3 % 3, 34, 3):
            said = attended.explain(1, query, key)
            assert said.kept == bool(seen[1, query, key])
            assert math.isclose(said.weight, float(rows[1, query, key]), rel_tol=1e-9, abs_tol=1e-12)
            assert math.isclose(said.exact, float(exact[1, query, key]), rel_tol=1e-9, abs_tol=1e-12)
            assert said.text.endswith(".") and "nan" not in said.text and "tensor" not in said.text
            assert all(isinstance(fact, float | int | str | bool) for fact in said.facts.values())
    for head, query, key in ((2, 0, 0), (0, 34, 0), (0, 0, -1)):
        with pytest.raises(ValueError, match="must lie in 0"):
            attended.explain(head, query, key)


@every_setting
def test_looked_counts_what_was_looked_at(setting):
    sequence = readable(setting, 100)
    attended = setting.attend(sequence)
    for query in (0, 1, 50, 99):
        looked = attended.read_count(0, query)
        assert looked.count >= 1
        if looked.unit == "keys":
            assert looked.count == int(attended.kept(query, None, 0).sum())


@every_setting
def test_cost_is_counted_and_grows_no_faster_than_promised(setting):
    costs = {n: setting.attend(readable(setting, n, heads=1)).cost for n in (512, 1024)}
    for cost in costs.values():
        assert cost.multiply_adds > 0
        assert cost.bytes_moved > 0
        assert cost.bytes_peak >= 0
    # With groups of s tokens that a text fixes, n·(s + n/s) grows as n² once n is above s².
    promised = 4.2 if "n²" in setting.complexity or "n/s" in setting.complexity else 3.0
    promised = 8.5 if "svd" in described(setting) else promised
    assert costs[1024].multiply_adds / costs[512].multiply_adds < promised


@pytest.mark.parametrize("key", list(MECHANISMS))
@pytest.mark.parametrize("n", [1, 2, 65, 512, 65536])
def test_every_budget_is_a_valid_setting(key, n):
    for setting in MECHANISMS[key].variants():
        for keys in sorted({1, 2, 3, 64, n // 3 + 1, n}):
            with_budget = setting.with_budget(min(keys, n), n)
            assert with_budget == type(setting).model_validate(with_budget.model_dump())


@pytest.mark.parametrize("key", list(MECHANISMS))
def test_class_facts_are_there_for_the_reader(key):
    kind = MECHANISMS[key]
    assert kind.key == key
    assert kind.idea.endswith(".")
    assert "arXiv" in kind.paper
    for name, field in kind.model_fields.items():
        assert field.title, f"dial {name} has no title"
        assert field.description, f"dial {name} has no help"
    for setting in kind.variants():
        assert len(setting.label) <= 34, f"{setting.label!r} is too long for a label"


@pytest.mark.parametrize("key", list(MECHANISMS))
def test_wrong_dials_are_named_with_their_bounds(key):
    with pytest.raises(ValueError, match=r"has no dial 'fetures'"):
        mechanism(key, fetures=256)
    with pytest.raises(ValueError, match=r"dial 'seed'.*-1.*0 …"):
        mechanism(key, seed=-1)
    for name, field in MECHANISMS[key].model_fields.items():
        for constraint in field.metadata:
            if (bound := getattr(constraint, "le", None)) is not None:
                with pytest.raises(ValueError, match=rf"dial '{name}'.*{bound}"):
                    mechanism(key, **{name: bound + 1})
            if (bound := getattr(constraint, "ge", None)) is not None:
                with pytest.raises(ValueError, match=rf"dial '{name}'.*{bound}"):
                    mechanism(key, **{name: bound - 1})


def test_an_unknown_mechanism_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"no mechanism 'performer'.*exact"):
        mechanism("performer")


@pytest.mark.parametrize("key", list(MECHANISMS))
@settings(max_examples=25)
@given(data=st.data())
def test_any_dials_on_any_small_sequence_give_a_map_or_a_sentence(key, data):
    """Walk the dials over their whole range, with any mask, any padding, any length."""
    kind = MECHANISMS[key]
    dials = {name: data.draw(dial_values(field), label=name) for name, field in kind.model_fields.items()}
    setting = kind.model_validate(dials)
    n = data.draw(st.integers(1, 40), label="n")
    sequence = gaussian(
        n,
        heads=data.draw(st.integers(1, 2)),
        d=data.draw(st.sampled_from([2, 8])),
        e=data.draw(st.sampled_from([1, 5])),
        causal=data.draw(st.booleans()),
        padding=data.draw(st.sampled_from(PADDINGS)),
        seed=data.draw(st.integers(0, 9)),
        calibrated=data.draw(st.booleans()),
        scale=data.draw(st.sampled_from([0.0, 0.3, 1.0, 3.0])),
    )
    attended = read(setting, sequence)
    if attended is None:
        return
    assert bool(torch.isfinite(attended.output).all())
    rows = attended.rows()
    scale = max(1.0, float(rows.abs().max()))
    assert_close(reconstructed(attended), attended.output, rtol=1e-7, atol=1e-8 * scale)
    if setting.not_stochastic is None:
        assert float(rows.min()) >= 0
        assert_close(rows.sum(-1), sequence.real.double().expand(sequence.h, -1), rtol=1e-9, atol=1e-9)


def dial_values(field):
    """Values that a dial allows: all choices, or numbers within its bounds with both ends among them."""
    annotation = field.annotation
    if annotation is bool:
        return st.booleans()
    bounds = {a: getattr(m, a) for m in field.metadata for a in ("ge", "le") if hasattr(m, a)}
    if annotation is int:
        low, high = bounds["ge"], bounds["le"]
        near = sorted({low, min(low + 1, high), min(7, high), min(64, high), high} - {x for x in (7,) if x < low})
        # A thousand features are as good as a million here, and a thousand times as quick.
        return st.sampled_from([x for x in near if low <= x <= max(300, low)])
    if annotation is float:
        return st.floats(bounds["ge"], bounds["le"], allow_nan=False)
    options = [*literals(annotation)]
    if options:
        return st.sampled_from(options)
    return st.just(field.default)


def literals(annotation):
    return get_args(annotation) if get_origin(annotation) is Literal else ()
