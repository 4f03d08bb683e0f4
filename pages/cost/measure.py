"""Cost below the fold: length by length against exact attention; time on this machine, memory, and the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.figures.cost import cost_chart
from longattn_core.studies.base.study import Result
from longattn_core.studies.cost.break_even import clock_against_count
from longattn_core.studies.cost.curves import LENGTHS, MEMORY, Shape, whole_map, whole_map_ends
from pages.cost.curves import AXES, TICKS, crossings_of, names_on_a_phone, timed, times_picture
from pages.cost.hero import Costs
from pages.kit import state
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose

PICTURES = {"time": _("Time"), "memory": _("Memory"), "table": _("Table")}


def measure(page: Page, costs: Costs) -> None:
    """One of three pictures: the clock, memory, the table."""
    picture = state.choose(
        "cost.picture", _("Picture"), list(PICTURES), default="time", labels=PICTURES.__getitem__, style="segments", view=True
    )
    st.caption(prose("cost", f"measure_{picture}", longest=LENGTHS[-1], keys=costs.keys))
    {"time": _time, "memory": _memory, "table": _table}[picture](page, costs)


def _time(page: Page, costs: Costs) -> None:
    if costs.what == "time":
        # The picture and its sweep stand above; only the numbers are shown.
        known = costs.times.known()
        if known is not None:
            _clock(page, costs, known)
        return

    def draw(known: Result) -> None:
        times_picture(page, known, costs.n, "time")
        _clock(page, costs, known)

    sweep_card(page, costs.times, draw)


def _clock(page: Page, costs: Costs, known: Result) -> None:
    """The crossings by the clock beside those by counting, and the machine's rates."""
    machine = known.tables["machine"]
    if len(machine):
        rates = machine.iloc[0]
        st.markdown(prose("cost", "machine", products=rates["products"] / 1e9, bandwidth=rates["bandwidth"] / 1e9))
    if "times" not in known.tables:
        return
    times, counted = known.tables["times"], costs.result.tables["crossings"]
    measured = times[~times["dashed"]].sort_values("n").groupby("label", sort=False).last()
    by_count = crossings_of(counted, "multiply_adds").set_index("label")["n"]
    by_bytes = crossings_of(counted, "bytes_moved").set_index("label")["n"]
    by_clock = known.tables["crossings"].set_index("label")["n"]
    table = pd.DataFrame(
        {
            "mechanism": measured.index,
            "by count": by_count.reindex(measured.index).to_numpy(),
            "by bytes": by_bytes.reindex(measured.index).to_numpy(),
            "by clock": by_clock.reindex(measured.index).to_numpy(),
            "share": measured["share"].to_numpy(),
            "longest": measured["n"].to_numpy(),
            "milliseconds": 1000 * measured["seconds"].to_numpy(),
        }
    )
    by_time = timed(known, costs.n)
    apart = clock_against_count(table["by count"], table["by clock"])
    st.markdown(prose("cost", f"differ_{apart}", n=costs.n, count=len(by_time.cheaper), readable=by_time.readable))
    shown = table.assign(**{"by clock": [np.nan if np.isnan(n) else float(f"{n:.2g}") for n in table["by clock"]]})
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=38 + 35 * len(shown),
        key="cost times",
        placeholder="–",
        column_config={
            "mechanism": _("pays from so many tokens on:"),
            "by count": st.column_config.NumberColumn(_("by multiply-adds"), format="localized", width=120),
            "by bytes": st.column_config.NumberColumn(_("by bytes moved"), format="localized", width=120),
            "by clock": st.column_config.NumberColumn(_("by the clock"), format="localized", width=110),
            "milliseconds": st.column_config.NumberColumn(_("milliseconds"), format="%.1f", width=110),
            "longest": st.column_config.NumberColumn(_("at n (tokens)"), format="localized", width=110),
            "share": st.column_config.NumberColumn(_("share of the limit"), format="percent", width=130),
        },
        column_order=("mechanism", "by count", "by bytes", "by clock", "longest", "milliseconds", "share"),
    )


def _memory(page: Page, costs: Costs) -> None:
    """Bytes held against n, beside the n × n map held whole, and where 16 GB are full."""
    result = costs.result
    shape = Shape(d=int(result.arrays["d"]), e=int(result.arrays["e"]), causal=page.causal)
    points = result.tables["points"]
    lengths = sorted(points["n"].unique())
    table = pd.concat(
        [points.loc[points["approximates"], ["key", "label", "n", "bytes_held"]], whole_map(lengths, shape)], ignore_index=True
    ).assign(dashed=lambda t: t["label"] == t["label"].iloc[-1])
    table.attrs["units"] = {"n": "tokens", "bytes_held": "bytes"}
    ends = whole_map_ends(shape)
    figure(
        page,
        "memory",
        result,
        cost_chart(
            table,
            result.tables["crossings"].iloc[:0],
            page.theme,
            what="bytes_held",
            n=costs.n,
            ticks=TICKS,
            y_title=AXES["bytes_held"],
            rules=[(float(MEMORY), "16 GB")],
        ),
        table=table,
        caption=_("Bytes held at once by one head in float32, with queries, keys, values and output."),
        alt=_("Bytes held against n. The n × n map held whole fills 16 GB at {n:,} tokens.").format(n=ends),
    )
    names_on_a_phone(page, table, "bytes_held", "memory")
    complexity = result.tables["complexity"]
    exact = float(complexity.loc[complexity["key"] == "exact", "memory ends"].iloc[0])
    st.markdown(prose("cost", "memory", ends=ends, layer=int(ends / 3), exact=exact / 1e6))


def _table(page: Page, costs: Costs) -> None:
    """A row a mechanism: how its cost grows, from where on it pays, and what it costs at the length at hand."""
    complexity = costs.result.tables["complexity"]
    shown = pd.DataFrame(
        {
            "mechanism": complexity["label"],
            "time": complexity["textbook"],
            "exponent": complexity["exponent"],
            "memory": complexity["memory exponent"],
            "pays": complexity["pays from"],
            "multiply_adds": complexity["multiply_adds"],
            "bytes_moved": complexity["bytes_moved"],
            "bytes_held": complexity["bytes_held"],
            "ends": complexity["memory ends"],
            "causal": [_reads(refusal, leaks) for refusal, leaks in complexity[["refusal", "leaks"]].itertuples(index=False)],
            "family": complexity["family"],
            "idea": complexity["idea"],
        }
    )
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        height=38 + 35 * len(shown),
        key="cost table",
        placeholder="–",
        column_config={
            "mechanism": _("mechanism"),
            "family": st.column_config.TextColumn(_("how it chooses"), width=120),
            "causal": st.column_config.TextColumn(_("causal?") if page.causal else _("unmasked?"), width=90),
            "time": st.column_config.TextColumn(_("operations, textbook"), width=190),
            "exponent": st.column_config.NumberColumn(_("fitted: n to the"), format="%.2f", width=100),
            "memory": st.column_config.NumberColumn(_("memory: n to the"), format="%.2f", width=110),
            "pays": st.column_config.NumberColumn(_("pays from (tokens)"), format="localized", width=120),
            "ends": st.column_config.NumberColumn(_("16 GB end at (tokens)"), format="compact", width=130),
            "multiply_adds": st.column_config.NumberColumn(_("multiply-adds now"), format="compact", width=120),
            "bytes_moved": st.column_config.NumberColumn(_("bytes moved now"), format="compact", width=120),
            "bytes_held": st.column_config.NumberColumn(_("bytes held now"), format="compact", width=110),
            "idea": st.column_config.TextColumn(_("what it does"), width=420),
        },
        column_order=(
            "mechanism",
            "family",
            "causal",
            "time",
            "exponent",
            "memory",
            "pays",
            "ends",
            "multiply_adds",
            "bytes_moved",
            "bytes_held",
            "idea",
        ),
    )
    st.caption(prose("cost", "table"))


def _reads(refusal: str, leaks: str) -> str:
    """Whether the mechanism can read under this mask."""
    if refusal:
        return _("no: ") + refusal
    return _("yes, but it leaks: ") + leaks if leaks else _("yes")
