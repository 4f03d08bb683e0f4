"""Step on the low-rank page: singular directions one at a time, Linformer's mixes, Nyström's factors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.maps import matrix_chart, signed_top
from longattn_core.charts.style.scales import Kind
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.base.study import Result
from longattn_core.studies.low_rank.steps import MOST_DIRECTIONS, Direction, Landmarks, Mixed
from pages.kit import state
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose
from pages.low_rank.hero import Ranked

TOKEN, CHANNEL = _("token (position)"), _("channel (number)")
QUERY, KEY = _("query (token position)"), _("key (token position)")


class Picture(NamedTuple):
    """One matrix of a frame: its name in the result, what stands above it, its axes and its scale."""

    array: str
    title: str
    down: str
    across: str
    kind: Kind = "difference"


def step(page: Page, ranks: Ranked) -> None:
    """Choose a method and go through its steps."""
    methods = {"svd": _("SVD"), "linformer": _("Linformer"), "nystrom": _("Nyström")}
    method = state.choose(
        "low_rank.step_method", _("Method"), list(methods), default="svd", labels=methods.__getitem__, style="segments", view=True
    )
    if method == "svd":
        _directions(page, ranks.finding.n)
        return
    rank = state.slide(
        "low_rank.step_rank",
        _("Rank k"),
        (2, 4, 8, 16, 32, 64),
        default=16,
        parse=int,
        help=_("How many keys, or landmarks, the tokens are mixed into."),
        view=True,
    )
    if method == "linformer":
        _mixes(page, rank, ranks.mechanism.seed)
    else:
        _landmarks(page, rank)


def _directions(page: Page, n: int) -> None:
    st.markdown(prose("low_rank", "step_svd"))
    count = max(1, min(MOST_DIRECTIONS, n))
    at = stepper("low_rank.step_svd", [str(i + 1) for i in range(count)], theme=page.theme, label=_("Direction"))
    result = run(Direction(source=page.source, direction=at))
    numbers = {name: float(result.arrays[name]) for name in ("value", "held", "so_far")}
    st.markdown(prose("low_rank", "step_svd_now", index=at + 1, **numbers))
    pictures = (
        Picture("one", _("Direction {index} alone").format(index=at + 1), QUERY, KEY),
        Picture("sum", _("All up to it"), QUERY, KEY, "log"),
        Picture("difference", _("Minus the exact map"), QUERY, KEY),
    )
    _frame(page, result, pictures, f"direction-{at + 1}")


def _mixes(page: Page, rank: int, seed: int) -> None:
    kinds = {"mean": _("means"), "gaussian": _("random Gaussian"), "fitted": _("fitted")}
    projection = state.choose(
        "low_rank.step_mix",
        _("Projection E, F"),
        list(kinds),
        default="mean",
        labels=kinds.__getitem__,
        style="segments",
        view=True,
    )
    result = run(Mixed.model_validate({"source": page.source.model_dump(), "rank": rank, "projection": projection, "seed": seed}))
    (k, d), (n, e) = result.arrays["mixed keys"].shape, result.arrays["values"].shape
    st.markdown(prose("low_rank", "step_linformer", n=n))
    stops = [_("mix the keys"), _("score the mixes"), _("mix the values"), _("the map it implies")]
    at = stepper("low_rank.step_linformer", stops, theme=page.theme, label="Linformer")
    mixed_key, mixed_value = _("mixed key (number)"), _("mixed value (number)")
    mixed_keys = Picture("mixed keys", f"E·K ({k} × {d})", mixed_key, CHANNEL)
    implied: Kind = "difference" if result.arrays["lifted"].min() < 0 else "log"
    frames = (
        (
            Picture("mix of keys", f"E ({k} × {n})", mixed_key, TOKEN),
            Picture("keys", f"K ({n} × {d})", TOKEN, CHANNEL),
            mixed_keys,
        ),
        (mixed_keys, Picture("weights", f"softmax(Q·(E·K)ᵀ/√d) ({n} × {k})", QUERY, mixed_key, "log")),
        (
            Picture("mix of values", f"F ({k} × {n})", mixed_value, TOKEN),
            Picture("values", f"V ({n} × {e})", TOKEN, CHANNEL),
            Picture("mixed values", f"F·V ({k} × {e})", mixed_value, CHANNEL),
        ),
        (
            Picture("lifted", _("The implied map"), QUERY, KEY, implied),
            Picture("exact", _("Exact, without a mask"), QUERY, KEY, "log"),
        ),
    )
    st.markdown(prose("low_rank", f"step_linformer_{at}", n=n, k=k, **_errors(result, "lifted")))
    _frame(page, result, frames[at], f"linformer-{at + 1}")


def _landmarks(page: Page, rank: int) -> None:
    result = run(Landmarks(source=page.source, rank=rank))
    n, k = len(result.arrays["tokens"]), len(result.arrays["inverse"])
    st.markdown(prose("low_rank", "step_nystrom", n=n))
    at = stepper("low_rank.step_nystrom", [_("three factors"), _("their product")], theme=page.theme, label="Nyström")
    landmark = _("landmark (number)")
    frames = (
        (
            Picture("near", f"softmax(Q·K̃ᵀ) ({n} × {k})", QUERY, landmark, "log"),
            Picture("inverse", f"softmax(Q̃·K̃ᵀ)⁺ ({k} × {k})", landmark, landmark),
            Picture("far", f"softmax(Q̃·Kᵀ) ({k} × {n})", landmark, KEY, "log"),
        ),
        (Picture("product", _("Their product"), QUERY, KEY), Picture("exact", _("Exact, without a mask"), QUERY, KEY, "log")),
    )
    st.markdown(prose("low_rank", f"step_nystrom_{at}", k=k, **_errors(result, "product")))
    _frame(page, result, frames[at], f"nystrom-{at + 1}")


def _errors(result: Result, name: str) -> dict[str, float]:
    """The relative error of a map, and that of the uniform map beside it."""
    exact = result.arrays["exact"]
    size = float(np.linalg.norm(exact))
    uniform = np.full_like(exact, 1 / exact.shape[1])
    return {
        "error": float(np.linalg.norm(result.arrays[name] - exact)) / size,
        "control": float(np.linalg.norm(uniform - exact)) / size,
    }


def _frame(page: Page, result: Result, pictures: tuple[Picture, ...], name: str) -> None:
    """The matrices of a frame side by side; on a phone below one another."""
    for place, picture in zip(st.columns(len(pictures), gap="medium"), pictures, strict=True):
        values = result.arrays[picture.array]
        top = signed_top(values) if picture.kind == "difference" else 1.0
        with place:
            figure(
                page,
                f"{name}-{picture.array.replace(' ', '-')}",
                result,
                matrix_chart(values, page.theme, x_title=picture.across, y_title=picture.down, kind=picture.kind, top=top),
                table=pd.DataFrame(values),
                title=picture.title,
                shown=LowRank,
                caption=f"{picture.title}. {result.words['origin']}",
                alt=_("A matrix of {rows} × {columns} numbers between {low:.3g} and {high:.3g}.").format(
                    rows=values.shape[0], columns=values.shape[1], low=float(values.min()), high=float(values.max())
                ),
            )
            st.caption(_scale_words(picture.kind, top))


def _scale_words(kind: Kind, top: float) -> str:
    if kind == "difference":
        return _("Orange above 0, purple below; full colour at ±{top:.2g}.").format(top=top)
    return _("Weights on a logarithmic scale, from 0.0001 to 1.")
