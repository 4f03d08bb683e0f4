"""The theme as Altair and Plotly take it: the same fonts, grid and colours in every chart, and no legends."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import FONT, MECHANISM_COLOURS, Theme

if TYPE_CHECKING:
    import altair as alt
    import plotly.graph_objects as go


altair_lock = threading.Lock()


def altair_config(theme: Theme) -> dict[str, Any]:
    """The theme as a Vega-Lite `config`. Lines are labelled directly, so legends are off."""
    tick, label, title = theme.size("tick"), theme.size("label"), theme.size("answer")
    axis = {
        "labelFontSize": tick,
        "titleFontSize": label,
        "titleFontWeight": "normal",
        "labelColor": theme.muted,
        "titleColor": theme.text,
        "gridColor": theme.grid,
        "domainColor": theme.border,
        "tickColor": theme.border,
    }
    return {
        "background": theme.background,
        "font": FONT,
        "padding": 8,
        "axis": axis,
        "legend": {"disable": True},
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "fontSize": title,
            "fontWeight": 600,
            "color": theme.text,
            "subtitleColor": theme.muted,
            "subtitleFontSize": label,
        },
        "text": {"color": theme.text, "fontSize": label},
        "rule": {"color": theme.border},
        "point": {"size": 70, "filled": True},
        "line": {"strokeWidth": 2},
        "range": {
            "category": [theme.style(key).colour for key in MECHANISM_COLOURS],
            "ramp": [hexadecimal(colour) for colour in theme.weights[::15]],
            "diverging": [hexadecimal(colour) for colour in theme.differences[::14]],
        },
    }


def fixed(channel: Any, place: Any) -> Any:
    """A channel at a fixed place, in pixels or as an expression: `fixed(alt.XValue, "width")`.

    `alt.value` says the same, but is looked up in the whole schema of Vega-Lite: several milliseconds for each label.
    """
    return channel(place)


def layered(*parts: Any, **properties: Any) -> "alt.LayerChart":
    """An `alt.LayerChart` of the parts, with its properties (height, width, resolve, data …) said at once.

    `alt.layer` gives the same picture, but copies every part to its leaves four times, and `properties` copies the
    whole again: a quarter of the time in which a page has to answer a dial. A selection is no part's own here: say
    `params=[selecting(select, "boxes")]` of the whole, and `name="boxes"` of the layer where it is made.
    """
    chart: alt.LayerChart = _layers()(**properties)
    chart.layer = list(parts)
    return chart


def selecting(select: "alt.Parameter", layer: str) -> "alt.TopLevelSelectionParameter":
    """A selection that is made in the layer of this name, as `layered` wants it."""
    import altair as alt

    return alt.TopLevelSelectionParameter(**select.param.to_dict(), views=[layer])  # type: ignore[union-attr]


@cache
def _layers() -> "type[alt.LayerChart]":
    """The class of charts that `layered` makes. Altair is imported with the first of them, not with this file."""
    import altair as alt

    class Layers(alt.LayerChart):
        """A layered chart whose shallow copy is one: Altair's makes the layers anew, and each of them twice."""

        def copy(self, deep: bool | Iterable[Any] = True, ignore: list[str] | None = None) -> Any:
            if deep is not False:
                return super().copy(deep=deep, ignore=ignore)
            twin = type(self)()
            twin._kwds.update(self._kwds)
            return twin

    return Layers


def themed(chart: Any, theme: Theme) -> Any:
    """A copy of an Altair chart that carries the theme: no theme of the process is changed, so sessions cannot mix."""
    copy = chart.copy(deep=True)
    copy["config"] = altair_config(theme)
    return copy


def specification(chart: Any, theme: Theme) -> dict[str, Any]:
    """An Altair chart in its theme as a Vega-Lite specification; `datasets` holds what it reads of its tables, by name.

    It is not checked against Vega-Lite's schema, which takes ten times as long as making it; a file that is written
    (`export.images`) is, and so is every chart that a test draws. The page draws it on a canvas and gives no mark a
    sentence of its own, since the figure has one for all: as nodes of the document, a thousand marks and their
    sentences take longer than all else that a dial sets off.
    """
    said, tables = _written(chart)
    made: dict[str, Any] = json.loads(said)
    made["datasets"] = {**made.get("datasets", {}), **{name: _read(table, said) for name, table in tables.items()}}
    own = made.get("config", {}) if _has_config(chart) else {}
    made["config"] = {**altair_config(theme), **own, "aria": False}
    made["usermeta"] = {"embedOptions": {"renderer": "canvas"}}
    return made


_kept: OrderedDict[Hashable, tuple[str, list[tuple[str, int]]]] = OrderedDict()
KEPT = 256


def _written(chart: Any) -> tuple[str, dict[str, pd.DataFrame]]:
    """The specification as JSON, and its tables by name: written once for all charts that differ in their tables' cells alone.

    A move of a dial changes no more than those, and Altair asks a dozen questions of each word that it writes.
    """
    import altair as alt

    held: list[pd.DataFrame] = []
    shape = _shape(chart, held)
    found: dict[int, tuple[str, Any]] = {}
    # How Altair turns tables into data is a setting of the whole process: one chart at a time.
    with altair_lock:
        if shape in _kept:
            _kept.move_to_end(shape)
            said, places = _kept[shape]
            return said, {name: held[place] for name, place in places}
        alt.data_transformers.register("by_name", _by_name)
        with alt.data_transformers.enable("by_name", tables=found):
            said = json.dumps(chart.to_dict(validate=False))
        tables = dict(found.values())
        places = [(name, place) for name, table in tables.items() for place, one in enumerate(held) if one is table]
        if shape is not None and len(places) == len(tables):
            _kept[shape] = said, places
            if len(_kept) > KEPT:
                _kept.popitem(last=False)
        return said, tables


def _shape(chart: Any, tables: list[pd.DataFrame]) -> Hashable:
    """All that a chart says but its tables' cells, which are collected; None where it holds something that has no name."""
    import altair as alt

    def of(x: Any) -> Hashable:
        if isinstance(x, str) or x is None:
            return x
        if isinstance(x, bool | int | float):
            # Beside its type: 1, 1.0 and True are equal, and written apart.
            return type(x), x
        if isinstance(x, alt.SchemaBase):
            said = [(name, of(value)) for name, value in x._kwds.items() if value is not alt.Undefined]
            return type(x), *map(of, x._args), *said
        if isinstance(x, pd.DataFrame):
            place = next((at for at, table in enumerate(tables) if table is x), len(tables))
            if place == len(tables):
                tables.append(x)
            # A column's type says what an encoding without one is.
            return pd.DataFrame, place, tuple(x.columns), tuple(map(str, x.dtypes))
        if isinstance(x, dict):
            return dict, *((name, of(value)) for name, value in x.items())
        if isinstance(x, list | tuple):
            return list, *map(of, x)
        raise TypeError(f"a {type(x).__name__} cannot be told from another by its value")

    try:
        return of(chart)
    except TypeError:
        return None


def without_units(table: pd.DataFrame) -> pd.DataFrame:
    """The same table without its units, of which pandas makes a deep copy at every step. Cells are shared, none copied."""
    bare = table.copy(deep=False)
    bare.attrs = {}
    return bare


def _read(table: Any, said: str) -> Any:
    """A table's columns that the specification names: the browser unpacks every cell that it gets."""
    unread = [column for column in table if str(column) not in said and not re.search(r"[^\w ]", str(column))]
    read = table.drop(columns=unread) if unread else table
    return read if isinstance(read.index, pd.RangeIndex) else read.reset_index(drop=True)


def _has_config(chart: Any) -> bool:
    import altair as alt

    return chart["config"] is not alt.Undefined


def _by_name(data: Any, tables: dict[int, tuple[str, Any]]) -> dict[str, str]:
    """A table that several layers share is kept once. Names count up, so that an unchanged chart has the same ones."""
    name, _table = tables.setdefault(id(data), (f"table {len(tables)}", data))
    return {"name": name}


def plotly_template(theme: Theme) -> "go.layout.Template":
    """The theme as a Plotly template: no legend, quiet grid, the mechanisms' colours in order."""
    import plotly.graph_objects as go

    axis = {
        "gridcolor": theme.grid,
        "linecolor": theme.border,
        "zerolinecolor": theme.border,
        "tickfont": {"size": theme.size("tick"), "color": theme.muted},
        "title": {"font": {"size": theme.size("label"), "color": theme.text}},
        "automargin": True,
    }
    colours = [(index / 15, hexadecimal(theme.weights[17 * index])) for index in range(16)]
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": theme.size("label"), "color": theme.text},
            "title": {"font": {"size": theme.size("answer")}, "x": 0, "xanchor": "left"},
            "paper_bgcolor": theme.background,
            "plot_bgcolor": theme.background,
            "colorway": [theme.style(key).colour for key in MECHANISM_COLOURS],
            "colorscale": {"sequential": colours},
            "showlegend": False,
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 56, "r": 16, "t": 40, "b": 48},
            "hoverlabel": {"font": {"family": FONT, "size": theme.size("label")}},
        }
    )
