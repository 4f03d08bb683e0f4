"""Every mechanism of the registry under the public checks of `longattn_core.testing`, against its oracle, and by its dials."""

import importlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longattn_core import MECHANISMS, mechanism
from longattn_core.testing import check_against_oracle, checks
from longattn_core.testing.facts import bounds_of, dial_values, expect_map_or_sentence
from longattn_core.testing.output import EVERY_SHAPE
from longattn_core.testing.sequences import PADDINGS, gaussian

pytestmark = pytest.mark.slow

SETTINGS = [setting for kind in MECHANISMS.values() for setting in kind.variants()]

# Named exceptions, each with its reason: mechanisms that do not do what the others do, and why.
NOT_SHARES = {
    "low_rank svd": "a truncated SVD has negative entries",
    "low_rank nystrom": "a product with a pseudo-inverse has negative entries",
    "low_rank linformer": "a Gaussian projection mixes keys with signs; only pooling by means gives shares",
    "favor trigonometric": "sines and cosines estimate a positive kernel with signed features",
    "routed capsules": "the couplings depend on the values and squashing shrinks them",
    "memory delta": "the delta rule subtracts what a key already holds",
}
LEAKS_BY_DEFAULT = {"low_rank": "its default is the SVD, a yardstick and not a method"}

SHAPES_UNCHECKED = {
    "rows_times_values_are_the_output",
    "hidden_pairs_are_not_kept",
    "dropped_pairs_have_no_weight",
    "padding_takes_no_part",
    "rows_sum_to_one",
    "the_past_does_not_depend_on_the_future",
    "exact_setting_is_exact_attention",
    "the_ladder_gets_no_worse",
    "explanations_say_what_the_map_says",
}
"""Checks that read the same again and again: the shapes are checked in all others, and in `test_shapes_are_those_promised`."""


def described(setting):
    return [setting.key, *(str(value) for value in setting.model_dump().values())]


def name_of(setting):
    shown = {k: v for k, v in setting.model_dump().items() if v != type(setting).model_fields[k].default}
    return " ".join([setting.key, *(f"{v}" if k == "variant" else f"{k}={v}" for k, v in shown.items())])


def cases():
    """Every check with every class or setting of the registry, one setting after the other: checks share its readings."""
    for key, kind in MECHANISMS.items():
        for check in checks():
            if check.scope == "class":
                yield pytest.param(check, kind, id=f"{key}-{check}")
        for setting in kind.variants():
            for check in checks():
                if check.scope != "class":
                    yield pytest.param(check, setting, id=f"{name_of(setting)}-{check}")


every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=name_of)


@pytest.mark.parametrize(("check", "subject"), list(cases()))
def test_common_check(check, subject, request):
    if check.name in SHAPES_UNCHECKED:
        request.getfixturevalue("_shapes_unchecked")
    if check(subject) == 0:
        pytest.skip("refuses every sequence of this check")


def test_every_check_whose_shapes_are_unchecked_exists():
    assert {check.name for check in checks()} >= SHAPES_UNCHECKED


@every_setting
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_shapes_are_those_promised(setting, causal):
    """The shapes in the annotations are checked while every length is read, with holes of padding."""
    for case in EVERY_SHAPE:
        sequence = case.sequence(setting)
        if case.causal == causal and case.padding == "holes" and setting.refuses(sequence) is None:
            setting.attend(sequence).rows()


@every_setting
def test_independent_oracle_agrees(setting):
    """Output, weights and kept pairs equal those of a plain float64 implementation from the definition."""
    check_against_oracle(setting, importlib.import_module(f"tests.oracles.{setting.key}").oracle)


@every_setting
def test_weights_that_are_no_shares_are_known(setting):
    known = [reason for name, reason in NOT_SHARES.items() if set(name.split()) <= set(described(setting))]
    if setting.not_stochastic is not None:
        assert known, f"{name_of(setting)} has rows that are no shares, and no named exception: {setting.not_stochastic}"


@pytest.mark.parametrize("key", list(MECHANISMS))
def test_the_default_does_not_leak(key):
    assert key in LEAKS_BY_DEFAULT or MECHANISMS[key]().depends_on_future is None, (
        "only the SVD yardstick may leak by default, by name"
    )


@every_setting
def test_the_exact_setting_is_exact_to_ten_digits(setting):
    """Only Nyström's pseudo-inverse loses two more."""
    assert setting.exact_tolerance == (1e-8 if "nystrom" in described(setting) else 1e-10)


@every_setting
def test_the_cost_grows_as_n_or_n_squared(setting):
    """Only the SVD may cost n³."""
    assert setting.cubic == ("svd" in described(setting))


@pytest.mark.parametrize("key", list(MECHANISMS))
def test_class_facts_are_those_of_the_registry(key):
    assert MECHANISMS[key].key == key
    assert "arXiv" in MECHANISMS[key].paper


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
    dials = {name: data.draw(dial_strategy(field), label=name) for name, field in kind.model_fields.items()}
    sequence = gaussian(
        data.draw(st.integers(1, 40), label="n"),
        heads=data.draw(st.integers(1, 2)),
        d=data.draw(st.sampled_from([2, 8])),
        e=data.draw(st.sampled_from([1, 5])),
        causal=data.draw(st.booleans()),
        padding=data.draw(st.sampled_from(PADDINGS)),
        seed=data.draw(st.integers(0, 9)),
        calibrated=data.draw(st.booleans()),
        scale=data.draw(st.sampled_from([0.0, 0.3, 1.0, 3.0])),
    )
    expect_map_or_sentence(kind.model_validate(dials), sequence)


def dial_strategy(field):
    """Values that a dial allows: all choices, or numbers within its bounds with both ends among them."""
    if field.annotation is float:
        bounds = bounds_of(field)
        return st.floats(bounds["ge"], bounds["le"], allow_nan=False)
    return st.sampled_from(dial_values(field))
