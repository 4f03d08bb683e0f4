"""Cost's picture above the fold: operations, bytes or time against n, and where each mechanism begins to pay."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import streamlit as st

from longattn_core.charts.figures.cost import cost_chart
from longattn_core.jobs import lower_priority
from longattn_core.studies.base.study import Result
from longattn_core.studies.cost import BreakEven, CostCurves, CostTimes, break_even
from longattn_core.studies.cost.curves import BUDGETS, LENGTHS, Quantity
from longattn_core.studies.cost.timing import gaussian
from pages.cost.curves import AXES, TICKS, crossings_of, names_on_a_phone, timed, times_picture
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import answer, predict
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose

Counted = Quantity | Literal["time"]

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


@dataclass(frozen=True, kw_only=True)
class Costs:
    """One run of the page: what is counted at which budget, the formulas' result, and which mechanisms pay.

    `finding` is by what is counted, `by_count` by multiply-adds.
    """

    what: Counted
    keys: int
    n: int
    result: Result
    times: CostTimes
    finding: BreakEven
    by_count: BreakEven

    def crossing(self, key: str) -> float:
        """From how many tokens on a mechanism needs fewer multiply-adds than exact attention; NaN: at no length here."""
        table = self.result.tables["crossings"]
        crossed = table[(table["key"] == key) & (table["quantity"] == "multiply_adds")]
        return float(crossed["n"].iloc[0]) if len(crossed) else float("nan")


def numbers_of(costs: Costs) -> dict[str, Any]:
    """The numbers that the page's sentences may name."""
    finding = costs.finding
    return {
        "n": finding.n,
        "keys": costs.keys,
        "readable": finding.readable,
        "count": len(finding.cheaper),
        "best": finding.cheaper[0] if finding.cheaper else "",
        "share": _percent(finding.shares[0]) if finding.shares else "",
        "less": LESS[costs.what],
        "crossings": _crossings(costs),
        "longest": LENGTHS[-1],
        "never": _never(finding),
    }


def counted_numbers_of(costs: Costs) -> dict[str, Any]:
    """The numbers of the sentence beside the papers': by multiply-adds, whatever is drawn above."""
    return {"n": costs.n, "keys": costs.keys, "count": len(costs.by_count.cheaper), "readable": costs.by_count.readable}


def _crossings(costs: Costs) -> str:
    """The sentence about the earliest and the latest crossing."""
    first, last = costs.finding.first, costs.finding.last
    if first is None or last is None:
        return prose("cost", "crossings_none")
    if first == last:
        return prose("cost", "crossings_one", first=first[0], first_n=_tokens(first[1], costs.what))
    return prose(
        "cost",
        "crossings_both",
        first=first[0],
        first_n=_tokens(first[1], costs.what),
        last=last[0],
        last_n=_tokens(last[1], costs.what),
    )


def _never(finding: BreakEven) -> str:
    """The sentence that names the mechanisms that never pay, where they are few."""
    count = len(finding.never)
    return " " + prose("cost", "never", never=", ".join(finding.never)) if 0 < count <= 3 else ""


def hero(page: Page) -> Costs:
    """The dials, the picture, and the answer."""
    costs = _costs(page)
    answer(page, costs.finding.kind, **numbers_of(costs))
    return costs


def _costs(page: Page) -> Costs:
    """Draw the dials and the picture of what is counted."""
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
    points, crossings = result.tables["points"], crossings_of(result.tables["crossings"], what)
    by_count = break_even(points, crossings_of(result.tables["crossings"], "multiply_adds"), "multiply_adds", n)
    if what == "time":
        sweep_card(page, times, lambda known: times_picture(page, known, n, "hero-time"))
        known = times.known()
        finding = timed(known, n) if known is not None else BreakEven(kind="waiting", n=n, readable=0)
        st.caption(prose("cost", "hero_time"))
        return Costs(what="time", keys=keys, n=n, result=result, times=times, finding=finding, by_count=by_count)
    finding = by_count if what == "multiply_adds" else break_even(points, crossings, what, n)
    costs = Costs(what=what, keys=keys, n=n, result=result, times=times, finding=finding, by_count=by_count)  # type: ignore[arg-type]
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
        alt=_("{what} against n on logarithmic scales. {crossings}").format(what=NAMES[what], crossings=_crossings(costs)),
    )
    names_on_a_phone(page, drawn, what, "cost")
    st.caption(prose("cost", f"hero_{what}"))
    return costs


@cache
def _preload_counts(causal: bool) -> None:
    """Count every mechanism's cost at the other budgets too, so that the dial answers at once.

    In a thread of low priority, started at the page's first visit; a second or two each, once a server.
    """

    def count() -> None:
        lower_priority()
        for keys in BUDGETS:
            # At exit Python waits for this thread; torch must not run any more by then.
            if threading.main_thread().is_alive():
                CostCurves(source=gaussian(causal), keys=keys).run()

    threading.Thread(target=count, name="count ahead").start()


def guess(page: Page, costs: Costs) -> None:
    """From how many tokens on do random features pay? The tempting guess: as soon as there are more tokens than features."""
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


def _tokens(n: float, what: str) -> str:
    """A length in a sentence: exact where it is counted, two digits where it is measured."""
    return f"{round(n):,}" if what != "time" else _("about {n:,}").format(n=int(float(f"{n:.2g}")))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"
