"""Dilution below the fold: the softmax length by length, and what is measured of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.dilution import every_head_chart, rank_table, remedy_table
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.study import Result
from longattn_core.studies.dilution.every_head import EveryHead
from longattn_core.studies.dilution.finding import remedy_finding
from pages.dilution.hero import Grown, temperature
from pages.kit import state
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, data, prose

PICTURES = {
    "scores": _("Who adds what"),
    "entropy": _("Entropy"),
    "sorted": _("Sorted weights"),
    "remedies": _("Remedies"),
    "heads": _("Every head"),
}
REMEDIES = {"none": _("as the model has it"), "temperature": _("temperature"), "log_n": _("times ln n"), "yarn": _("YaRN")}


def measure(page: Page, grown: Grown) -> None:
    """One of five pictures of the same run."""
    text = page.source if isinstance(page.source, TextSource) else None
    choices = [name for name in PICTURES if name != "heads" or text is not None]
    picture = state.choose(
        "dilution.picture", _("Picture"), choices, default="scores", labels=PICTURES.__getitem__, style="segments", view=True
    )
    st.caption(prose("dilution", f"measure_{picture}", ref=grown.reference))
    if picture == "heads" and text is not None:
        _every_head(page, text)
    elif picture == "remedies":
        _remedies(page, grown)
    elif picture == "sorted":
        _sorted(page, grown)
    elif picture == "entropy":
        _entropy(page, grown)
    else:
        _scores(page, grown)


def _curves(
    page: Page, grown: Grown, name: str, series: dict[str, str], y_title: str, *, dashed: Sequence[str] = (), log: bool = False
) -> None:
    """Columns of the run's table as curves over n: `series` maps a column to its label."""
    parts = [
        grown.points[["n", column]].rename(columns={column: "value"}).assign(series=label, dashed=column in dashed)
        for column, label in series.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="n", title=_("tokens of the text (logarithmic)"), log=True),
        y=CurveAxis(column="value", title=y_title, log=log),
        series=CurveSeries(column="series", dashed="dashed"),
    )
    last = grown.points.sort_values("n").iloc[-1]
    alt = _("At {n:,} tokens: ").format(n=int(last["n"])) + "; ".join(
        f"{label} {last[column]:.3g}" for column, label in series.items()
    )
    figure(page, name, grown.result, chart, table=grown.points, caption=prose("dilution", f"caption_{name}"), alt=alt)


def _scores(page: Page, grown: Grown) -> None:
    series = {f"score {part}": label for part, label in grown.names.items() if grown.points[f"score {part}"].notna().any()}
    _curves(page, grown, "scores", series, _("logarithm of what it adds (nats)"))


def _entropy(page: Page, grown: Grown) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        series = {"entropy": _("entropy"), "bound": _("ln n, the most there can be")}
        _curves(page, grown, "entropy", series, _("entropy of the weights (nats)"), dashed=("bound",))
    with right:
        series = {"effective": _("all keys"), "effective without sinks": _("without sinks")}
        _curves(page, grown, "effective", series, _("effective tokens (logarithmic)"), log=True)


def _sorted(page: Page, grown: Grown) -> None:
    table = rank_table(grown.points)
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="rank", title=_("place in the falling order (logarithmic)"), log=True),
        y=CurveAxis(column="weight", title=_("weight (logarithmic)"), log=True),
        series=CurveSeries(column="series"),
        height=360,
    )
    figure(
        page,
        "sorted",
        grown.result,
        chart,
        table=table,
        caption=prose("dilution", "caption_sorted"),
        alt=_("The largest weight at each length: {numbers}.").format(
            numbers=", ".join(f"{row['series']} {row['weight']:.3f}" for _i, row in table[table["rank"] == 1].iterrows())
        ),
    )


def _remedies(page: Page, grown: Grown) -> None:
    steps = (0.25, 0.5, 0.67, 0.8, 1.0, 1.25, 2.0)
    with st.columns(3)[0]:
        state.slide(
            "dilution.temperature",
            _("Fixed temperature τ"),
            steps,
            default=0.67,
            parse=float,
            shown=lambda value: f"{value:g}",
            help=_("All scores are divided by τ; below 1 the softmax is sharper."),
        )
    finding = remedy_finding(grown.points)
    names = {
        key: label if key != "temperature" else _("temperature {t:g}").format(t=temperature()) for key, label in REMEDIES.items()
    }
    st.markdown(
        prose(
            "dilution",
            f"remedied_{finding.kind}",
            what=grown.what,
            n=finding.n,
            plain=finding.plain,
            best=names[finding.best],
            best_share=finding.best_share,
            worst=names[finding.worst],
            worst_share=finding.worst_share,
        )
    )
    table = remedy_table(grown.points, names)
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="n", title=_("tokens of the text (logarithmic)"), log=True),
        y=CurveAxis(
            column="share", title=_("share of {needle}").format(needle=grown.names["needle"]), domain=(0.0, 1.0), format=".0%"
        ),
        series=CurveSeries(column="series"),
    )
    figure(
        page,
        "remedies",
        grown.result,
        chart,
        table=table,
        caption=prose("dilution", "caption_remedies"),
        alt=_("At {n:,} tokens: {plain:.1%} without a remedy, at best {best:.1%}.").format(
            n=finding.n, plain=finding.plain, best=max(finding.best_share, finding.plain)
        ),
    )
    for name in ("temperature", "log_n", "yarn"):
        formula(page, name, t=temperature(), ref=grown.reference)


def _every_head(page: Page, source: TextSource) -> None:
    """How widely every head of the model spreads as the text grows, some of them named."""
    columns = {
        "effective": _("effective tokens (logarithmic)"),
        "effective without sinks": _("effective tokens without sinks (logarithmic)"),
        "entropy": _("entropy (nats)"),
        "sinks": _("share of weight on sinks"),
    }
    column = state.choose(
        "dilution.column", _("Of every head"), list(columns), default="effective", labels=columns.__getitem__, view=True
    )
    chosen = f"L{source.layer} H{source.heads[0]}"
    known = {f"L{entry['layer']} H{entry['head']}": entry["name"] for entry in data("heads.json")}
    shown = ("L0 H0", "L11 H1", "L18 H8", "L7 H1")
    named = {chosen: f"{chosen}, {known.get(chosen, _('the chosen one'))}"} | {
        name: f"{name}, {known[name]}" for name in shown if name != chosen
    }

    def draw(result: Result) -> None:
        heads = result.tables["heads"]
        last = heads[heads["n"] == heads["n"].max()]
        figure(
            page,
            "every-head",
            result,
            every_head_chart(heads, page.theme, y=column, y_title=columns[column], named=named),
            table=heads,
            caption=prose("dilution", "caption_heads"),
            alt=_("{title} of 270 heads at {n:,} tokens: median {median:.3g}.").format(
                title=columns[column], n=int(last["n"].iloc[0]), median=last[column].median()
            ),
        )

    sweep_card(page, EveryHead(source=source.model_copy(update={"length": None}), longest=min(source.length or 1024, 1024)), draw)
