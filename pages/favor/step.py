"""Step on the random-features page: the running state filled token by token or chunk by chunk, and what a query reads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.favor_state import reads_chart, state_chart
from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.features import UNBIASED
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.state import Pace, RunningState, stops_of
from pages.favor.hero import Estimated
from pages.favor.numbers import from_log, tex
from pages.kit import state
from pages.kit.components.stepper import stepper
from pages.kit.components.token_text import MOST_TOKENS, TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose, quoted

READ = 12
"""Tokens whose weights are drawn as bars."""


def step(page: Page, estimated: Estimated) -> None:
    """The formulas with the numbers of this run, then the state frame by frame."""
    e = estimated.pairs.study.sequence().e
    columns = int(estimated.pairs.tables["output"]["columns"].iloc[0])
    _formulas(page, estimated, columns, e)
    order = "step_causal" if page.causal else "step_none"
    st.markdown(prose("favor", "step", columns=columns, e=e + 1) + " " + prose("favor", order))
    paces = {"chunk": _("chunk by chunk"), "token": _("token by token, the first 16")}
    chosen = state.choose(
        "favor.step.pace", _("Step"), list(paces), default="chunk", labels=paces.__getitem__, style="segments", view=True
    )
    pace: Pace = "token" if chosen == "token" else "chunk"
    stops = stops_of(page.tokens, pace)
    at = stepper(
        "favor.step",
        [_("after {count:,}").format(count=stop) for stop in stops],
        theme=page.theme,
        start=len(stops) // 2,
        label=_("How many tokens have been written into the state"),
    )
    result = run(RunningState(source=page.source, setting=estimated.setting, pace=pace, frame=at))
    _now(page, result, columns)
    left, right = st.columns(2, gap="medium")
    with left:
        _state(page, result)
    with right:
        _reads(page, result)
    _text(page, result)
    _sums(page, result)


def _formulas(page: Page, estimated: Estimated, columns: int, e: int) -> None:
    favor, pair = estimated.favor, estimated.pairs.tables["strongest"].iloc[0]
    known = favor.variant in UNBIASED and favor.kernel == "softmax"
    estimate = float(pair["kernel_sign"] * np.exp(min(700.0, float(pair["log_estimated_kernel"]))))
    kernel = float(np.exp(min(700.0, float(pair["log_kernel"]))))
    formula(page, favor.variant if known else "other", kernel=tex(kernel), estimate=tex(estimate), m=favor.features)
    formula(page, "output", range=r"\le i" if page.causal else r"=1\dots n", columns=columns, e=e)


def _now(page: Page, result: Result, columns: int) -> None:
    sums, at, reader = result.tables["sums"], int(result.arrays["at"]), int(result.arrays["reader"])
    row = sums[sums["stop"] == at].iloc[0]
    words = prose(
        "favor",
        "step_now",
        at=at,
        n=page.tokens,
        columns=columns,
        share=float(result.arrays["share"][0]),
        token=quoted(str(result.arrays["tokens"][reader])),
        reader=reader,
        exact=from_log(float(row["exact"])),
        estimated=("−" if row["negative"] else "") + from_log(float(row["estimated"])),
    )
    st.markdown(words + (" " + prose("favor", "step_negative") if row["negative"] else ""))


def _state(page: Page, result: Result) -> None:
    held, features = result.arrays["state"], result.arrays["features"]
    table = pd.DataFrame(held, index=[f"feature {feature + 1}" for feature in features]).reset_index(names="feature")
    figure(
        page,
        "running-state",
        result,
        state_chart(held, features, page.theme),
        table=table,
        shown=Favor,
        title=_("The state"),
        caption=f"Running state of {result.words['label']} after {int(result.arrays['at'])} tokens.",
        alt=_("The {rows} fullest features by {columns} channels of the running state.").format(
            rows=held.shape[0], columns=held.shape[1]
        ),
    )
    st.caption(prose("favor", "step_state"))


def _reads(page: Page, result: Result) -> None:
    table = _read_tokens(result)
    figure(
        page,
        "what-the-query-reads",
        result,
        reads_chart(table, page.theme),
        table=table,
        shown=Favor,
        title=_("What the query reads"),
        caption=f"Weights of query {int(result.arrays['reader'])} over {int(result.arrays['at'])} tokens.",
        alt=_("The {count} tokens with the largest weights, exact and estimated.").format(count=len(table)),
    )
    st.caption(prose("favor", "step_reads"))


def _read_tokens(result: Result) -> pd.DataFrame:
    """The tokens with the largest exact or estimated weights, the largest exact first."""
    exact, estimate = result.arrays["exact"], result.arrays["estimate"]
    inside = np.flatnonzero(~np.isnan(exact))
    half = READ // 2
    chosen = set(inside[np.argsort(-exact[inside], kind="stable")[:half]].tolist())
    for place in inside[np.argsort(-np.abs(estimate[inside]), kind="stable")].tolist():
        if len(chosen) >= READ:
            break
        chosen.add(place)
    places = sorted(chosen, key=lambda place: -exact[place])
    tokens = result.arrays["tokens"]
    table = pd.DataFrame(
        {
            "row": [f"{str(tokens[place]).strip() or '␣'} ({place})" for place in places],
            "place": places,
            "exact": exact[places],
            "estimate": estimate[places],
        }
    )
    table.attrs["units"] = {"place": "position", "exact": "share", "estimate": "share"}
    return table


def _text(page: Page, result: Result) -> None:
    if page.tokens > MOST_TOKENS:
        return
    reader, at = int(result.arrays["reader"]), int(result.arrays["at"])
    tokens = [str(token) for token in result.arrays["tokens"]]
    if page.source.kind != "text":
        # Names of tokens hold no spaces between words.
        tokens = [f" {token}" for token in tokens]
    token_text(
        TextPicture(tokens=tokens, weights=result.arrays["estimate"], selected=reader, causal_from=at - 1),
        key="favor text",
        theme=page.theme,
        link="maps",
        height=200,
        caption=prose("favor", "step_text"),
    )


def _sums(page: Page, result: Result) -> None:
    sums = result.tables["sums"]
    decades = np.log(10)
    table = pd.concat(
        [
            pd.DataFrame({"stop": sums["stop"], "value": sums[column] / decades, "curve": name})
            for column, name in (("exact", _("exact sum")), ("estimated", _("estimated sum")), ("norm", _("size of the state")))
        ],
        ignore_index=True,
    )
    at = int(result.arrays["at"])
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="stop", title=_("tokens written (number)")),
        y=CurveAxis(column="value", title=_("sum of weights (power of ten)")),
        series=CurveSeries(
            column="curve",
            colours={_("exact sum"): page.theme.style("exact").colour, _("size of the state"): page.theme.muted},
            keys={_("estimated sum"): "favor"},
        ),
        marked=((float(at), _("now")),),
    )
    figure(
        page,
        "sums-of-weights",
        result,
        chart,
        table=sums,
        shown=Favor,
        title=_("The sum that divides"),
        caption=f"Exact and estimated sums of weights, {result.words['label']}.",
        alt=_("Exact and estimated sum of weights at {count} stops.").format(count=len(sums)),
    )
    st.caption(prose("favor", "step_sums"))
