"""The ribbons as a chart for print: one query's weights along the text, a ribbon for each mechanism, on one axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.cells import Encoded, RibbonRow, cell_edges, encode, pool_cells
from longattn_core.charts.maps import visible
from longattn_core.charts.pictures import RibbonsPicture
from longattn_core.charts.pixels import paint
from longattn_core.charts.style.altair import fixed, themed
from longattn_core.charts.style.legend import caption_lines, colour_bar
from longattn_core.charts.style.png import data_uri
from longattn_core.charts.style.scales import Scale, weight_scale
from longattn_core.charts.style.theme import RIBBON_GAP, RIBBON_HEIGHT, Theme

Align = Literal["left", "right", "center"]
Weight = Literal["normal", "bold"]

_DOTS = 2
"""Dots of the image for each pixel of the chart's width."""
_LABELS, _COLUMN = 230, 84
"""Pixels of the labels on the left, and of a column of numbers on the right."""


def ribbons_chart(
    picture: RibbonsPicture, theme: Theme, *, title: str = "", caption: str = "", width: int = 640
) -> alt.VConcatChart:
    """The ribbons as an Altair chart with labels and facts.

    Where the text has more tokens than the picture has dots, a dot shows the strongest of those under it, and the
    caption says so. A hidden row shows a question mark.

    Raises:
        ValueError: no rows, or a query or mark outside the text.
    """
    rows, tokens, query, marked = picture.rows, picture.tokens, picture.query, picture.marked
    n = len(tokens)
    if not rows:
        raise ValueError("ribbons need at least one row, found none")
    if not 0 <= query < n or (marked is not None and not 0 <= marked < n):
        raise ValueError(f"query and marked token must lie in 0 … {n - 1}, found {query} and {marked}")
    measure = weight_scale()
    theme = theme.welcoming((row.key, row.family) for row in rows)
    sheet = _Sheet(theme=theme, n=n, width=width, count=len(rows))
    layers: list[Any] = [sheet.axis()]
    shown: set[int] = set()
    for index, row in enumerate(rows):
        middle = sheet.middle(index)
        layers.extend(sheet.label(row, middle))
        if row.hidden or row.refusal or row.weights is None:
            layers.append(sheet.text("?" if row.hidden else row.refusal, 0, middle))
            continue
        strip = strongest(row.weights, dots=width * _DOTS, query=query if picture.causal else None, scale=measure)
        shown |= set(np.unique(strip.codes).tolist())
        layers.append(sheet.strip(strip, middle, measure))
        layers.extend([] if marked is None else sheet.brackets(marked, middle))
    layers.extend(sheet.facts(rows, tokens, marked))
    layers.extend(sheet.flags(tokens, query, marked))
    strips = alt.layer(*layers).properties(width=width, height=sheet.height)
    parts: list[Any] = [strips, colour_bar(theme, measure, shown, width=width)]
    notes = [caption] if caption else []
    if n > width * _DOTS:
        notes.append(f"One dot shows the strongest of up to {-(-n // (width * _DOTS))} tokens.")
    if notes:
        parts.append(caption_lines(notes, theme=theme, width=width))
    chart = alt.vconcat(*parts, spacing=12)
    drawn: alt.VConcatChart = themed(chart.properties(title=title) if title else chart, theme)
    return drawn


def strongest(weights: Any, *, dots: int, query: int | None, scale: Scale) -> Encoded:
    """A ribbon in at most `dots` cells `[1, dots]`, each the strongest of its tokens; those after `query` are the future."""
    n = len(weights)
    pooled = pool_cells(np.asarray(weights, dtype=np.float64)[None], (1, min(dots, n)), "max")
    future = None if query is None else cell_edges(0, n, min(dots, n))[None, :-1] > query
    return encode(pooled, scale, future=future)


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """Where everything stands: labels left of the ribbons, numbers right of them, flags above."""

    theme: Theme
    n: int
    width: int
    count: int

    @property
    def tall(self) -> float:
        return RIBBON_HEIGHT * self.theme.zoom

    @property
    def head(self) -> float:
        return 3 * self.theme.size("tick")

    @property
    def height(self) -> float:
        return self.head + self.count * (self.tall + RIBBON_GAP)

    def middle(self, index: int) -> float:
        return self.head + index * (self.tall + RIBBON_GAP) + self.tall / 2

    def x(self, name: str) -> alt.X:
        return alt.X(f"{name}:Q", scale=alt.Scale(domain=[0, self.n], range=[0, self.width], nice=False), axis=self._axis())

    def _axis(self) -> alt.Axis:
        return alt.Axis(title="token position", grid=False, format="d", tickMinStep=1, tickCount=8)

    def axis(self) -> Any:
        frame = pd.DataFrame({"from": [0], "to": [self.n]})
        return alt.Chart(frame).mark_rule(opacity=0).encode(x=self.x("from"), x2=alt.X2("to:Q"), y=fixed(alt.YValue, self.height))

    def text(
        self,
        words: str,
        x: float,
        y: float,
        *,
        align: Align = "left",
        role: str = "label",
        colour: str = "",
        weight: Weight = "normal",
    ) -> Any:
        mark = alt.Chart(pd.DataFrame({"text": [words]})).mark_text(
            align=align, baseline="middle", fontSize=self.theme.size(role), fontWeight=weight, color=colour or self.theme.muted
        )
        return mark.encode(x=fixed(alt.XValue, x), y=fixed(alt.YValue, y), text=alt.Text("text:N"))

    def label(self, row: RibbonRow, y: float) -> list[Any]:
        style, zoom = self.theme.style(row.mechanism, row.family), self.theme.zoom
        left = -_LABELS * zoom
        fill = "transparent" if style.symbol.open else style.colour
        mark = alt.Chart(pd.DataFrame({"i": [0]})).mark_point(
            shape=style.symbol.vega, size=90 * zoom**2, fill=fill, stroke=style.colour, strokeWidth=1.5, opacity=1
        )
        up = 7 * zoom if row.badges and not row.hidden else 0.0
        charts = [
            mark.encode(x=fixed(alt.XValue, left + 6), y=fixed(alt.YValue, y - up)),
            self.text(row.title, left + 20 * zoom, y - up, colour=self.theme.text),
        ]
        if up:
            charts.append(self.text(" · ".join(row.badges), left + 20 * zoom, y + up, role="tick"))
        return charts

    def strip(self, cells: Encoded, y: float, scale: Scale) -> Any:
        pixels = paint(cells, theme=self.theme, kind=scale.kind, factor=(44, max(1, self.width * _DOTS // cells.codes.shape[1])))
        frame = pd.DataFrame({"x": [0], "x2": [self.n], "url": [data_uri(pixels)]})
        mark = alt.Chart(frame).mark_image(aspect=False, smooth=False, height=self.tall, baseline="middle")
        return mark.encode(x=self.x("x"), x2=alt.X2("x2:Q"), y=fixed(alt.YValue, y), url=alt.Url("url:N"))

    def facts(self, rows: Sequence[RibbonRow], tokens: Sequence[str], marked: int | None) -> list[Any]:
        columns: list[tuple[str, list[str]]] = []
        if marked is not None:
            columns.append((f"on “{visible(tokens[marked], 9)}”", [_weight(row, marked) for row in rows]))
        for label in dict.fromkeys(label for row in rows if not row.hidden for label, _ in row.facts):
            columns.append((label, ["" if row.hidden else dict(row.facts).get(label, "") for row in rows]))
        charts = []
        for index, (label, values) in enumerate(columns):
            x = self.width + (index + 1) * _COLUMN * self.theme.zoom
            charts.append(self.text(label, x, self.head - self.theme.size("tick"), align="right", role="tick"))
            weight: Weight = "bold" if index == 0 and marked is not None else "normal"
            for line, value in enumerate(values):
                y = self.middle(line)
                charts.append(self.text(value, x, y, align="right", colour=self.theme.text, weight=weight))
        return charts

    def flags(self, tokens: Sequence[str], query: int, marked: int | None) -> list[Any]:
        each, size = self.width / self.n, self.theme.size("tick")
        charts = []
        flags = [(query, f"“{visible(tokens[query])}” ({query}) looks back", self.theme.muted, 2.2)]
        if marked is not None and marked != query:
            flags.append((marked, f"“{visible(tokens[marked])}” ({marked})", self.theme.mark, 0.9))
        for token, words, colour, above in flags:
            at = (token + 0.5) * each
            align: Align = "left" if at < self.width * 0.2 else "right" if at > self.width * 0.8 else "center"
            at_edge = {"left": token * each, "right": (token + 1) * each, "center": at}[align]
            charts.append(self.text(words, at_edge, self.head - above * size, align=align, role="tick", colour=colour))
        return charts

    def brackets(self, token: int, y: float) -> list[Any]:
        """Two lines beside a token's cell on one ribbon: the cell itself stays uncovered."""
        each, reach = self.width / self.n, (self.tall + RIBBON_GAP) / 2
        rule = alt.Chart(pd.DataFrame({"i": [0]})).mark_rule(color=self.theme.mark, strokeWidth=1.25)
        return [
            rule.encode(x=fixed(alt.XValue, edge), y=fixed(alt.YValue, y - reach), y2=fixed(alt.Y2Value, y + reach))
            for edge in (token * each - 2, (token + 1) * each + 2)
        ]


def _weight(row: RibbonRow, token: int) -> str:
    if row.hidden:
        return "?"
    if row.refusal or row.weights is None:
        return ""
    weight = float(row.weights[token])
    return "never" if np.isnan(weight) else "< 0.0001" if 0 <= weight < 1e-4 else f"{weight:.3g}"
