"""What a class states about itself, its dials, its variants, and its refusals."""

from __future__ import annotations

import random
from typing import Any, Literal, get_args, get_origin

import torch
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from longattn_core.contracts.mechanism import Family, Mechanism, Refused
from longattn_core.contracts.sequence import Sequence
from longattn_core.testing.check import expect, expect_close, expect_sentence, implied_output, of_class, of_sequences, of_setting
from longattn_core.testing.output import EVERY_SHAPE
from longattn_core.testing.sequences import PADDINGS, Given, gaussian

LONGEST_LABEL = 34
"""Characters of a label that a chart has room for."""
DRAWS = 12
"""Random settings that are tried on random sequences."""


@of_class
def class_facts_are_stated(kind: type[Mechanism]) -> None:
    """A class states key, title, idea, paper, complexity, family and order."""
    for name in ("key", "title", "idea", "paper", "complexity"):
        value = getattr(kind, name, None)
        expect(isinstance(value, str) and bool(value), f"the class fact {name!r} to be a text, found {value!r}")
    expect_sentence(kind.idea, "the idea")
    expect(getattr(kind, "family", None) in get_args(Family), f"the family to be one of {get_args(Family)}")
    expect(isinstance(getattr(kind, "order", None), int), "the order to be a whole number")


@of_class
def dials_have_titles_help_and_bounds(kind: type[Mechanism]) -> None:
    """A dial has a title and a help text; a number has a least and a largest value, and no value beyond them is taken."""
    for name, field in kind.model_fields.items():
        expect(bool(field.title), f"dial {name!r} to have a title")
        expect(bool(field.description), f"dial {name!r} to have a help text")
        if field.annotation not in (int, float):
            continue
        bounds = bounds_of(field)
        expect(set(bounds) == {"ge", "le"}, f"dial {name!r} to have bounds, ge and le, found {bounds}")
        for outside in (bounds["ge"] - 1, bounds["le"] + 1):
            expect(not _takes(kind, {name: outside}), f"dial {name!r} to refuse {outside}")
    expect(not _takes(kind, {"no_dial_has_this_name": 1}), "unknown dials to be refused")


@of_class
def variants_are_settings_of_the_class(kind: type[Mechanism]) -> None:
    """`variants()` and `showcase()` give at least one setting each, all of this class."""
    for name, settings in (("variants()", kind.variants()), ("showcase()", kind.showcase())):
        expect(len(settings) >= 1, f"{name} to give a setting")
        expect(all(isinstance(setting, kind) for setting in settings), f"{name} to give settings of {kind.__name__}")


@of_class
def any_dials_give_a_map_or_a_sentence(kind: type[Mechanism]) -> None:
    """With any dials, any mask, any padding and any short length, a sequence is read or refused in a sentence."""
    draw = random.Random(0)
    for _ in range(DRAWS):
        dials = {name: draw.choice(dial_values(field)) for name, field in kind.model_fields.items()}
        try:
            setting = kind.model_validate(dials)
        except ValidationError:
            # The class may refuse dials that do not go together.
            continue
        sequence = gaussian(
            draw.randint(1, 40),
            heads=draw.randint(1, 2),
            d=draw.choice([2, 8]),
            e=draw.choice([1, 5]),
            causal=draw.random() < 0.5,
            padding=draw.choice(PADDINGS),
            seed=draw.randint(0, 9),
            calibrated=draw.random() < 0.5,
            scale=draw.choice([0.0, 0.3, 1.0, 3.0]),
        )
        expect_map_or_sentence(setting, sequence)


def expect_map_or_sentence(setting: Mechanism, sequence: Sequence) -> None:
    """Raise AssertionError unless the setting refuses in a sentence or gives an output that agrees with its map."""
    if (sentence := setting.refuses(sequence)) is not None:
        expect_sentence(sentence, f"the refusal of {setting!r}")
        return
    attended = setting.attend(sequence)
    expect(bool(torch.isfinite(attended.output).all()), f"a finite output of {setting!r}")
    rows = attended.rows()
    scale = max(1.0, float(rows.abs().max()))
    expect_close(
        implied_output(attended, rows),
        attended.output,
        f"rows @ v + offset to be the output of {setting!r}",
        rtol=1e-7,
        atol=1e-8 * scale,
    )
    if setting.not_stochastic is None:
        expect(float(rows.min()) >= 0, f"weights of {setting!r} that are not negative")
        ones = sequence.real.double().expand(sequence.h, -1)
        expect_close(rows.sum(-1), ones, f"rows of {setting!r} that sum to 1", rtol=1e-9, atol=1e-9)


@of_setting
def label_fits_a_chart(setting: Mechanism) -> None:
    """The label has at most 34 characters."""
    expect(len(setting.label) <= LONGEST_LABEL, f"at most {LONGEST_LABEL} characters, found {setting.label!r}")


@of_setting
def a_causal_or_an_unmasked_sequence_is_read(setting: Mechanism) -> None:
    """Without padding, a setting reads a causal or an unmasked sequence."""
    refusal = setting.refuses(Given(n=130).sequence(setting))
    expect(refusal is None, f"130 tokens to be read under one mask or the other, found the refusal {refusal!r}")


@of_setting
def deviations_are_declared_in_sentences(setting: Mechanism) -> None:
    """`depends_on_future`, `not_stochastic` and `no_exact_setting` are None or full sentences."""
    for name in ("depends_on_future", "not_stochastic", "no_exact_setting"):
        if (sentence := getattr(setting, name)) is not None:
            expect_sentence(sentence, name)


@of_sequences(*EVERY_SHAPE, reads_refused=True)
def refusals_are_sentences(setting: Mechanism, sequence: Sequence) -> None:
    """`refuses` gives a full sentence, and `attend` raises Refused with it."""
    if (sentence := setting.refuses(sequence)) is None:
        return
    expect_sentence(sentence, "the refusal")
    try:
        setting.attend(sequence)
    except Refused as refused:
        expect(str(refused) == sentence, f"attend to raise Refused with {sentence!r}, found {str(refused)!r}")
    else:
        expect(False, f"attend to raise Refused with {sentence!r}")


def bounds_of(field: FieldInfo) -> dict[str, Any]:
    """The bounds `ge` and `le` of a dial, as far as it has them."""
    return {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)}


def dial_values(field: FieldInfo) -> list[Any]:
    """Values that a dial takes: all choices, or some numbers with both bounds among them; else the default alone."""
    if field.annotation is bool:
        return [False, True]
    if field.annotation in (int, float):
        bounds = bounds_of(field)
        low, high = bounds["ge"], bounds["le"]
        if field.annotation is float:
            return [low, low + 0.1 * (high - low), low + 0.5 * (high - low), high, field.default]
        # Larger values than 300 take longer and show nothing new on short sequences.
        return sorted({x for x in (low, low + 1, 7, 64, high) if low <= x <= min(high, max(300, low))})
    if get_origin(field.annotation) is Literal:
        return list(get_args(field.annotation))
    return [field.default]


def _takes(kind: type[Mechanism], dials: dict[str, Any]) -> bool:
    try:
        kind.model_validate(dials)
    except ValidationError:
        return False
    return True
