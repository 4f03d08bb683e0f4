"""Cost's picture above the fold: operations, bytes or time against n, and where each mechanism begins to pay."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.cost import cost_chart
from longattn_core.jobs import lower_priority
from longattn_core.studies.base.study import Result
from longattn_core.studies.cost import BreakEven, CostCurves, CostTimes, break_even
from longattn_core.studies.cost.curves import BUDGETS, LENGTHS, Quantity
from longattn_core.studies.cost.timing import gaussian
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure, legend
from pages.kit.sections import predict
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose

Counted = Quantity | Literal["time"]

TICKS = LENGTHS[::2]
NAMES: dict[str, str] = {
    "multiply_adds": _("multiply-adds"),
    "bytes_moved": _("bytes moved"),
    "bytes_held": _("bytes held at once"),
    "time": _("time, measured here"),
}
LESS: dict[str, str] = {
    "multiply_adds": _("need fewer multiply-adds"),
    "bytes_moved": _("move fewer bytes"),
    "bytes_held": _("hold fewer bytes at once"),
    "time": _("take less time"),
}
AXES: dict[str, str] = {
    "multiply_adds": _("multiply-adds (logarithmic)"),
    "bytes_moved": _("bytes moved (logarithmic)"),
    "bytes_held": _("bytes held at once (logarithmic)"),
    "milliseconds": _("milliseconds (logarithmic)"),
}


@dataclass(frozen=True, kw_only=True)
class Costs:
    """One run of the page: what is counted at which budget, the formulas' result, and who pays by what is counted."""

    what: Counted
    keys: int
    n: int
    result: Result
    times: CostTimes
    found: BreakEven
    by_count: BreakEven

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that the page's sentences may name."""
        found = self.found
        return {
            "n": found.n,
            "keys": self.keys,
            "readable": found.readable,
            "count": len(found.cheaper),
            "best": found.cheaper[0] if found.cheaper else "",
            "share": _percent(found.shares[0]) if found.shares else "",
            "less": LESS[self.what],
            "crossings": self._crossings(),
            "longest": LENGTHS[-1],
            "never": self._never(),
        }

    def _crossings(self) -> str:
        first, last = self.found.first, self.found.last
        if first is None or last is None:
            return prose("cost", "crossings_none")
        if first == last:
            return prose("cost", "crossings_one", first=first[0], first_n=_tokens(first[1], self.what))
        return prose(
            "cost",
            "crossings_both",
            first=first[0],
            first_n=_tokens(first[1], self.what),
            last=last[0],
            last_n=_tokens(last[1], self.what),
        )

    def _never(self) -> str:
        count = len(self.found.never)
        return " " + prose("cost", "never", never=", ".join(self.found.never)) if 0 < count <= 3 else ""

    @property
    def said(self) -> dict[str, Any]:
        """The numbers of the sentence beside the articles': by count, whatever is drawn above."""
        return {"n": self.n, "keys": self.keys, "count": len(self.by_count.cheaper), "readable": self.by_count.readable}

    def crossing(self, key: str) -> float:
        """From how many tokens on a mechanism needs fewer multiply-adds than exact attention; NaN: at no length here."""
        table = self.result.tables["crossings"]
        found = table[(table["key"] == key) & (table["quantity"] == "multiply_adds")]
        return float(found["n"].iloc[0]) if len(found) else float("nan")


def hero(page: Page) -> Costs:
    """The dials, the picture, and what it found."""
    with page.dials:
        places = st.columns(2, vertical_alignment="bottom")
    with places[0]:
        keys = state.slide(
            "cost.keys",
            _("Keys or features per query k"),
            BUDGETS,
            default=64,
            parse=int,
            shown=lambda k: f"{k:,}",
            help=_("Every mechanism is set so that a query looks at about so many keys, groups or features."),
        )
    with places[1]:
        what = state.choose(
            "cost.what",
            _("What is counted"),
            list(NAMES),
            default="multiply_adds",
            labels=NAMES.__getitem__,
            help=_("Operations and bytes by each mechanism's own formula; time is measured on this server."),
        )
    with st.spinner(_("Counting …")):
        result = run(CostCurves(source=page.source, keys=keys))
    _preload_counts(page.causal)
    n, times = int(result.arrays["n"]), CostTimes(source=gaussian(page.causal), keys=keys, causal=page.causal)
    points, crossings = result.tables["points"], _of(result.tables["crossings"], what)
    by_count = break_even(points, _of(result.tables["crossings"], "multiply_adds"), "multiply_adds", n)
    if what == "time":
        sweep_card(page, times, lambda known: draw_times(page, known, n, "hero-time"))
        known = times.known()
        found = timed(known, n) if known is not None else BreakEven(kind="waiting", n=n, readable=0)
        st.caption(prose("cost", "hero_time"))
        return Costs(what="time", keys=keys, n=n, result=result, times=times, found=found, by_count=by_count)
    found = by_count if what == "multiply_adds" else break_even(points, crossings, what, n)
    costs = Costs(what=what, keys=keys, n=n, result=result, times=times, found=found, by_count=by_count)  # type: ignore[arg-type]
    drawn = points[points["approximates"]]
    drawn.attrs.update(points.attrs)
    figure(
        page,
        "cost",
        result,
        cost_chart(drawn, crossings, page.theme, what=what, n=n, ticks=TICKS, y_title=AXES[what]),
        table=drawn,
        caption=_("Cost against n of one head, at about {keys} keys or features a query: {what}.").format(
            keys=keys, what=NAMES[what]
        ),
        alt=_("{what} against n on logarithmic scales. {crossings}").format(
            what=NAMES[what], crossings=costs.numbers["crossings"]
        ),
    )
    names_on_a_phone(page, drawn, what, "cost")
    st.caption(prose("cost", f"hero_{what}"))
    return costs


@cache
def _preload_counts(causal: bool) -> None:
    """Count every mechanism's cost at the other budgets too, so that the dial answers at once.

    Behind the first visit of the page and never in its way; a second or two each, once a server.
    """

    def count() -> None:
        lower_priority()
        for keys in BUDGETS:
            # Python waits for this thread at its end, which a thread that is deep in torch would not survive.
            if threading.main_thread().is_alive():
                CostCurves(source=gaussian(causal), keys=keys).run()

    threading.Thread(target=count, name="count ahead").start()


def timed(known: Result, n: int) -> BreakEven:
    """Who pays by the clock, as far as it has run."""
    if "times" not in known.tables:
        return BreakEven(kind="waiting", n=n, readable=0)
    return break_even(known.tables["times"], known.tables["crossings"], "estimate", n)


def draw_times(page: Page, known: Result, n: int, name: str) -> None:
    """Milliseconds against n, measured as far as the line is whole."""
    if "times" not in known.tables:
        return
    times = known.tables["times"]
    table = going_on(times).assign(milliseconds=lambda t: 1000 * t["estimate"])
    table.attrs["units"] = {**times.attrs["units"], "milliseconds": "ms"}
    measured = times.loc[~times["dashed"], "n"]
    figure(
        page,
        name,
        known,
        cost_chart(
            table,
            known.tables["crossings"],
            page.theme,
            what="milliseconds",
            n=n,
            ticks=TICKS,
            y_title=AXES["milliseconds"],
            y_format=",~r",
        ),
        table=table,
        caption=_("Milliseconds against n, one head of width 64, {threads} thread(s); dashed: by formula.").format(
            threads=known.provenance.threads
        ),
        alt=_("Milliseconds against n for {count} mechanisms, measured up to {n:,} tokens.").format(
            count=times["label"].nunique(), n=int(measured.max()) if len(measured) else 0
        ),
    )
    names_on_a_phone(page, times, "estimate", name)


def going_on(times: pd.DataFrame) -> pd.DataFrame:
    """The last measured point of each curve a second time, as the first of its dashed part: a line without a gap."""
    unmeasured = set(times.loc[times["dashed"] & times["estimate"].notna(), "label"])
    measured = times[~times["dashed"] & times["label"].isin(unmeasured)].sort_values("n")
    last = measured.groupby("label", sort=False).tail(1).assign(dashed=True)
    return pd.concat([times, last], ignore_index=True)


def names_on_a_phone(page: Page, table: pd.DataFrame, what: str, name: str) -> None:
    """The curves' colours in a line of their own where their names do not fit beside their ends."""
    kinds = table.loc[table[what] > 0, ["key", "label"]].drop_duplicates()
    with st.container(key=f"phone-only-{name}"):
        legend(page, [(page.theme.style(key).colour, label, "") for key, label in kinds.itertuples(index=False)])


def guess(page: Page, costs: Costs) -> None:
    """From how many tokens on do random features pay? The trap is to think: as soon as there are more tokens than features."""
    right = costs.crossing("favor")
    if not right > 0:
        return
    options = sorted({costs.keys, round(right), 4 * round(right), 16 * round(right)})
    d, e = int(costs.result.arrays["d"]), int(costs.result.arrays["e"])
    predict(
        page,
        "favor",
        [f"{option:,}" for option in options],
        options.index(round(right)),
        keys=costs.keys,
        crossed=round(right),
        each=per_token(costs, "favor", round(right)),
        pair=d + e,
        visible=_("half of them on average") if page.causal else _("all"),
    )


def per_token(costs: Costs, key: str, n: int) -> float:
    """Multiply-adds a token of one mechanism, at the length nearest to n."""
    points = costs.result.tables["points"]
    own = points[(points["key"] == key) & points["multiply_adds"].notna()]
    row = own.iloc[int((own["n"] - n).abs().to_numpy().argmin())]
    return float(row["multiply_adds"] / row["n"])


def _of(crossings: pd.DataFrame, what: str) -> pd.DataFrame:
    found = crossings[crossings["quantity"] == what]
    found.attrs.update(crossings.attrs)
    return found


def _tokens(n: float, what: str) -> str:
    """A length in a sentence: exact where it is counted, two digits where it is measured."""
    return f"{round(n):,}" if what != "time" else _("about {n:,}").format(n=int(float(f"{n:.2g}")))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"
