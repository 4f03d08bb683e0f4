"""Dials drawn from a model's fields: a mechanism or a synthetic sequence describes itself, and this draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import streamlit as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from streamlit.delta_generator import DeltaGenerator

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.validation import bounds
from pages.kit import state
from pages.kit.text import _

if TYPE_CHECKING:
    from pages.kit.context import Page


M = TypeVar("M", bound=Mechanism)
B = TypeVar("B", bound=BaseModel)


class Unseen:
    """The place of dials that are put away: they keep their values, and are not drawn."""


UNSEEN = Unseen()


def dials(kind: type[B], prefix: str, *, skip: frozenset[str] = frozenset(), columns: int = 1, start: B | None = None) -> B:
    """Draw a widget for every field that matters at the present choices, and give the validated model.

    `start` holds the values of a visitor who has chosen nothing; without it the model's own defaults stand. A value
    that came in from a link is checked by the model itself; one that it refuses is shown as a sentence and the default
    stands in its place.
    """
    places = st.columns(columns) if columns > 1 else [st.container()]
    return _drawn(kind, prefix, start, lambda name, drawn: None if name in skip else places[drawn % columns])


def mechanism_dials(page: Page, kind: type[M], *, row: Sequence[str] = (), default: M | None = None) -> M:
    """The dials of the page's mechanism: at most three named ones in the row above the picture, all others one press away.

    The others are drawn when they are asked for: a page has up to a dozen, and would draw them at every move of the three.

    `default` is the setting that the page begins with. The values live in the state under `m.<key>.<dial>`, as they do
    on the page that compares all mechanisms.
    """
    key = kind.key
    if len(row) > 3 or any(name not in kind.model_fields for name in row):
        raise ValueError(f"at most three dials of {key} stand in the row, found {list(row)}")
    with page.dials:
        left, right = st.columns([9, 2], vertical_alignment="bottom")
        # Side by side in the order asked for; a dial without meaning at the present choices leaves no hole.
        line = left.container(horizontal=True, vertical_alignment="bottom")
        with right:
            more = st.popover(_("More dials"), width="stretch", key=f"more of {key}", on_change="rerun")
        places = {name: line.container() for name in row}
        rest = more if more.open else UNSEEN
        return _drawn(kind, f"m.{key}", default, lambda name, _drawn: places.get(name, rest))


def _drawn(kind: type[B], prefix: str, start: B | None, place_of: Callable[[str, int], DeltaGenerator | Unseen | None]) -> B:
    begin = kind() if start is None else start
    values: dict[str, Any] = {}
    drawn = 0
    for name, field in kind.model_fields.items():
        place = place_of(name, drawn)
        if place is None or not _matters(field, values, begin):
            continue
        if isinstance(place, Unseen):
            values[name] = _widget(f"{prefix}.{name}", field, getattr(begin, name), drawn=False)
            continue
        with place:
            values[name] = _widget(f"{prefix}.{name}", field, getattr(begin, name))
        drawn += 1
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        st.error(f"{'.'.join(map(str, first['loc'])) or kind.__name__}: {first['msg']}.")
        return begin


def _matters(field: FieldInfo, values: dict[str, Any], begin: BaseModel) -> bool:
    conditions = _extra(field).get("when", {})
    return all(values.get(other, getattr(begin, other)) in allowed for other, allowed in conditions.items())


def _widget(name: str, field: FieldInfo, default: Any, *, drawn: bool = True) -> Any:
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
        (one, *_more) = get_args(annotation)
        choices = [str(value) for value in get_args(one)]
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
        # Bounds may be written as whole numbers: a step has one text, 8.0, whatever the bounds are.
        fine = _steps(float(low), float(high), extra)
        return state.slide(
            name, label, fine, default=default, parse=_finite, shown=lambda value: f"{value:.3g}", help=hint, drawn=drawn
        )
    # A field of another kind has no widget: its default stands.
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
