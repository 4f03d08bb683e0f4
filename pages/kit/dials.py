"""Dials drawn from the fields of a pydantic model: a mechanism or a synthetic sequence describes its own dials."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, TypeVar, get_args, get_origin

import streamlit as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from streamlit.delta_generator import DeltaGenerator

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.validation import bounds
from pages.kit import state
from pages.kit.context import Page
from pages.kit.text import _

M = TypeVar("M", bound=Mechanism)
B = TypeVar("B", bound=BaseModel)


def dials(kind: type[B], prefix: str, *, skip: frozenset[str] = frozenset(), columns: int = 1, start: B | None = None) -> B:
    """Draw a widget for every field that has a meaning with the values chosen so far, and return the validated model.

    `start` holds the values for a visitor who has chosen nothing; without it these are the model's defaults. The model checks the
    values that come from a link; where it refuses one, its sentence is shown and `start` is returned.
    """
    places = st.columns(columns) if columns > 1 else [st.container()]
    return _draw_fields(kind, prefix, start, lambda _name, drawn: places[drawn % columns], skip=skip)


def mechanism_dials(page: Page, kind: type[M], *, row: Sequence[str] = (), default: M | None = None) -> M:
    """The dials of the page's mechanism: at most three named ones in the row above the picture, all others behind a button.

    The others are drawn only while they are open: a mechanism has up to a dozen, and each would be drawn again whenever one of
    the three moves.

    `default` is the setting that the page begins with. The values are in the state under `m.<key>.<dial>`, on every page.
    """
    key = kind.key
    if len(row) > 3 or any(name not in kind.model_fields for name in row):
        raise ValueError(f"at most three dials of {key} stand in the row, found {list(row)}")
    with page.dials:
        left, right = st.columns([9, 2], vertical_alignment="bottom")
        # Side by side in the order of `row`; a dial that has no meaning with the values chosen leaves no gap.
        line = left.container(horizontal=True, vertical_alignment="bottom")
        with right:
            more = st.popover(_("More dials"), width="stretch", key=f"more of {key}", on_change="rerun")
        places = {name: line.container() for name in row}
        rest = more if more.open else None
        return _draw_fields(kind, f"m.{key}", default, lambda name, _drawn: places.get(name, rest))


def _draw_fields(
    kind: type[B],
    prefix: str,
    start: B | None,
    place_of: Callable[[str, int], DeltaGenerator | None],
    *,
    skip: frozenset[str] = frozenset(),
) -> B:
    """The model of the dials' values. `place_of(name, drawn)` says where a field is drawn, after `drawn` others.

    A field without a place is not drawn and keeps its value; one that is skipped has no value here.
    """
    start = kind() if start is None else start
    values: dict[str, Any] = {}
    drawn = 0
    for name, field in kind.model_fields.items():
        if name in skip or not _matters(field, values, start):
            continue
        place = place_of(name, drawn)
        with nullcontext() if place is None else place:
            values[name] = _widget(f"{prefix}.{name}", field, getattr(start, name), drawn=place is not None)
        drawn += place is not None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        st.error(f"{'.'.join(map(str, first['loc'])) or kind.__name__}: {first['msg']}.")
        return start


def _matters(field: FieldInfo, values: dict[str, Any], start: BaseModel) -> bool:
    """Whether the other fields have the values that this field has a meaning with (`when` of the contract's dials)."""
    conditions = _extra(field).get("when", {})
    return all(values.get(other, getattr(start, other)) in allowed for other, allowed in conditions.items())


def _widget(name: str, field: FieldInfo, default: Any, *, drawn: bool) -> Any:
    extra, annotation = _extra(field), field.annotation
    symbol = extra.get("symbol", "")
    title = _(field.title or name.rpartition(".")[2])
    label = title if not symbol or title.endswith(symbol) else f"{title} {symbol}"
    hint = _(field.description) if field.description else None
    if annotation is bool:
        return state.switch(name, label, default=default, help=hint, drawn=drawn)
    if get_origin(annotation) is Literal:
        names = extra.get("options", {})
        options = {str(value): value for value in get_args(annotation)}
        chosen = state.choose(
            name,
            label,
            list(options),
            default=str(default),
            labels=lambda value: _(names.get(value, value)),
            help=hint,
            drawn=drawn,
        )
        return options[chosen]
    if get_origin(annotation) is tuple:
        choices = [str(value) for value in get_args(get_args(annotation)[0])]
        names = extra.get("options", {})
        return state.choose_many(
            name, label, choices, default=default, labels=lambda value: _(names.get(value, value)), help=hint, drawn=drawn
        )
    low, high = bounds(field, least=0, most=2**31 - 1)
    if annotation is int and extra.get("scale", "linear") == "linear" and high - low > 200:
        return state.whole(name, label, least=int(low), most=int(high), default=default, help=hint, drawn=drawn)
    if annotation is int:
        steps = _whole_steps(int(low), int(high), extra)
        return state.slide(name, label, steps, default=default, parse=int, help=hint, drawn=drawn)
    if annotation is float:
        # Bounds may be whole numbers in the model; the state must write a value as 8.0 in every run, never as 8.
        fine_steps = _steps(float(low), float(high), extra)
        return state.slide(
            name, label, fine_steps, default=default, parse=_finite, shown=lambda value: f"{value:.3g}", help=hint, drawn=drawn
        )
    # A field of another type has no widget and keeps its default.
    return default


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def _whole_steps(low: int, high: int, extra: dict[str, Any]) -> list[int]:
    if extra.get("scale", "linear") == "linear":
        return list(range(low, high + 1))
    base = 2.0 if extra["scale"] == "log2" else 10 ** (1 / 3)
    steps, value = {low, high}, max(1.0, float(low))
    while value <= high:
        steps.add(round(value))
        value *= base
    return sorted(steps)


def _steps(low: float, high: float, extra: dict[str, Any]) -> list[float]:
    if extra.get("scale", "linear") == "linear" or low <= 0:
        width = 10 ** math.floor(math.log10((high - low) / 20))
        count = round((high - low) / width)
        while count > 80:
            width, count = width * 2, math.ceil(count / 2)
        return sorted({low, high, *(round(low + width * i, 10) for i in range(count + 1) if low + width * i <= high)})
    factor = 2**0.5 if extra["scale"] == "log2" else 10**0.1
    steps, value = {low, high}, low
    while value < high:
        steps.add(float(f"{value:.3g}"))
        value *= factor
    return sorted(step for step in steps if low <= step <= high)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value
