"""What a setting says of its future is what is measured: later tokens, or the length of the text, change earlier rows or not.

A cut parts a causal sequence in a past and a future. The future is once replaced by other queries, keys and values, and once
taken away. Whether the past's outputs or weights move must be what `depends_on_future` says, in both directions.
"""

import typing
from dataclasses import replace
from functools import cache

import pytest
import torch

from longattn_core import MECHANISMS, mechanism
from tests.support.sequences import gaussian

pytestmark = pytest.mark.slow

N, CUTS = 96, (23, 40, 64, 77)
STILL, MOVED = 1e-12, 1e-3
"""Relative to the largest output: rounding in float64, and a dependence that is there."""

SMALL = {
    "trained": 16,
    "rank": 7,
    "chunk": 8,
    "width": 12,
    "segment": 12,
    "memory": 8,
    "compressed": 3,
    "slots": 4,
    "block": 4,
    "half_life": 8.0,
    "features": 16,
    "steps": 5,
}
"""Dials of the size of the sequence: at their defaults many mechanisms read all 96 tokens, and no dependence could show."""

LENGTH_SETS_DIALS = {
    ("routed", "router"): "n sets the strided path's stride, √n clusters where none are given, and the first quarter to fit on",
    ("routed", "clusters"): "n sets √n clusters where none are given, and without a calibration the first quarter to fit on",
}
"""Settings without a sentence whose rows change with the length all the same: n chooses dials, as a person would for a text of
that length, and what later tokens hold changes nothing. `causal_note` says so."""

BY_LENGTH_ALONE = {"exact", "relative"}
"""Mechanisms whose sentence is about the length: what later tokens hold must change nothing."""


def choices(field):
    if field.annotation is bool:
        return (False, True)
    return typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()


def applies(setting, field):
    when = (field.json_schema_extra or {}).get("when", {})
    return all(getattr(setting, name) in values for name, values in when.items())


def registered():
    """Each class's variants and showcase, and every choice of every dial that applies, one at a time, with small dials."""
    settings = []
    for kind in MECHANISMS.values():
        small = {name: value for name, value in SMALL.items() if name in kind.model_fields}
        for setting in dict.fromkeys((*kind.variants(), *kind.showcase())):
            settings.append(setting.with_dials(**small))
            for name, field in kind.model_fields.items():
                if name != "variant" and applies(setting, field):
                    settings += [setting.with_dials(**small, **{name: value}) for value in choices(field)]
    return tuple(dict.fromkeys(settings))


def name_of(setting):
    shown = {k: v for k, v in setting.model_dump().items() if v not in (type(setting).model_fields[k].default, SMALL.get(k))}
    return " ".join([setting.key, *(f"{v}" if k == "variant" else f"{k}={v}" for k, v in shown.items())])


SETTINGS = registered()
CAUSAL = [setting for setting in SETTINGS if setting.refuses(gaussian(N)) is None]


@cache
def other_future(cut, calibrated, seed):
    sequence, other = gaussian(N, seed=seed, calibrated=calibrated), gaussian(N, seed=seed + 50, scale=3.0)
    past = torch.arange(N)[:, None] < cut
    return replace(sequence, **{x: torch.where(past, getattr(sequence, x), getattr(other, x)) for x in ("q", "k", "v")})


def difference(whole, changed, cut):
    """How far the past's outputs and weights differ, relative to the largest output."""
    output = whole.output[:, :cut]
    moved = float((output - changed.output[:, :cut]).abs().max() / output.abs().max())
    rows = (attended.rows(slice(0, cut))[..., :cut] for attended in (whole, changed))
    return max(moved, float((next(rows) - next(rows)).abs().max()))


@cache
def measured(setting):
    """The largest difference by other later tokens, and by none, for each cut, with a calibration and without."""
    by_contents = by_length = 0.0
    for seed, calibrated in ((0, True), (1, False)):
        sequence = gaussian(N, seed=seed, calibrated=calibrated)
        whole = setting.attend(sequence)
        for cut in CUTS:
            by_contents = max(by_contents, difference(whole, setting.attend(other_future(cut, calibrated, seed)), cut))
            by_length = max(by_length, difference(whole, setting.attend(sequence.prefix(cut)), cut))
    return by_contents, by_length


@pytest.mark.usefixtures("_shapes_unchecked")
@pytest.mark.parametrize("setting", CAUSAL, ids=name_of)
def test_a_setting_depends_on_its_future_if_and_only_if_it_says_so(setting):
    by_contents, by_length = measured(setting)
    if setting.depends_on_future is not None:
        assert max(by_contents, by_length) > MOVED, "the setting says that it depends on the future, and nothing moves"
        assert setting.key not in BY_LENGTH_ALONE or by_contents < STILL
        return
    assert by_contents < STILL, f"later tokens move the past by {by_contents:.2g}"
    if (setting.key, getattr(setting, "variant", None)) in LENGTH_SETS_DIALS:
        assert by_length > MOVED, "the exception is no longer needed"
        return
    assert by_length < STILL, f"the length moves the past by {by_length:.2g}"


@pytest.mark.usefixtures("_shapes_unchecked")
@pytest.mark.parametrize(
    "dials",
    [
        {"variant": "clusters", "clusters": 4, "width": 12},
        {"clusters": 4, "width": 12, "paths": ("local", "clusters")},
        {"clusters": 4, "width": 12, "paths": ("local", "clusters"), "top_k": 1, "weights": "random"},
    ],
    ids=["clusters", "router", "random router"],
)
def test_dials_that_the_length_does_not_set_leave_no_dependence(dials):
    """The exception is as narrow as its reason: a calibration, a number of clusters, and no path whose stride is n/w."""
    setting, sequence = mechanism("routed", **dials), gaussian(N)
    whole = setting.attend(sequence)
    assert max(difference(whole, setting.attend(sequence.prefix(cut)), cut) for cut in CUTS) < STILL


def test_one_bucket_for_all_has_chunks_that_later_tokens_do_not_shift():
    setting = mechanism("lsh", order_by="chunks", buckets=1, chunk=8)
    assert setting.depends_on_future is None
    assert max(measured(setting)) < STILL


@pytest.mark.parametrize("key", list(MECHANISMS))
def test_a_class_with_such_a_setting_says_so_in_its_note(key):
    settings = [setting for setting in SETTINGS if setting.key == key]
    refused = [setting for setting in settings if setting not in CAUSAL]
    exceptions = [variant for name, variant in LENGTH_SETS_DIALS if name == key]
    if refused or exceptions or any(setting.depends_on_future is not None for setting in settings):
        assert MECHANISMS[key].causal_note.endswith(".")


def test_the_settings_that_depend_on_the_future_are_these():
    """A guard against a measurement that no longer sees anything: each known dependence is among the settings."""
    said = {(setting.key, getattr(setting, "variant", None)) for setting in CAUSAL if setting.depends_on_future is not None}
    assert {("low_rank", "svd"), ("exact", "yarn"), ("relative", "rope"), ("lsh", None), ("segmented", "none")} <= said
