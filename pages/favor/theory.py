"""Theory on the random-features page: the paper's figure, the mirror, the sphere, orthogonal directions, the claims."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.favor_heads import kind_colours
from longattn_core.charts.figures.favor_theory import measured_curves, ratio_surface, slice_chart
from longattn_core.measures.theory import features as law
from longattn_core.mechanisms.favor import Favor
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.theory import Orthogonality, RatioSurface, SphereKernel, Symmetry, count_inside, orthogonal_ratio
from pages.favor.hero import Estimated
from pages.favor.numbers import plain
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose


def theory(page: Page, estimated: Estimated) -> None:
    """One law at a time; each is computed once for all visitors, because none reads a sequence."""
    parts: dict[str, tuple[str, Callable[[], object]]] = {
        "ratio": (_("Which features fail where"), lambda: _ratio(page)),
        "sphere": (_("Directions of one length"), lambda: _sphere(page, estimated.pairs)),
        "orthogonal": (_("Orthogonal directions"), lambda: _orthogonal(page)),
        "claims": (_("What the paper reports"), lambda: st.markdown(prose("favor", "claims"))),
    }
    chosen = state.choose(
        "favor.step.law", _("Law"), list(parts), default="ratio", labels=lambda name: parts[name][0], style="segments", view=True
    )
    with st.spinner(_("Drawing a million directions …")):
        parts[chosen][1]()


def _ratio(page: Page) -> None:
    study = RatioSurface()
    result, mirror = run(study), run(Symmetry())
    formula(page, "errors")
    grid = pd.DataFrame(result.arrays["ratio"], index=result.arrays["length"], columns=result.arrays["angle"])
    figure(
        page,
        "ratio-surface",
        result,
        ratio_surface(result, page.theme),
        table=grid.reset_index(names="length"),
        shown=Favor,
        title=_("Sines and cosines against positive features"),
        caption="Ratio of mean squared errors over angle and length, closed form, with Monte Carlo at length 1.",
        alt=_("A surface: the ratio grows without bound as the angle opens."),
    )
    st.caption(prose("favor", "theory_ratio"))
    measured = result.tables["measured"]
    held = count_inside(measured, law.mse_ratio(study.length_of_slice, measured["angle"].to_numpy()))
    figure(
        page,
        "ratio-slice",
        result,
        slice_chart(result, page.theme),
        table=result.tables["slice"],
        shown=Favor,
        title=_("The slice at length 1"),
        caption="Ratio of mean squared errors at length 1, closed form and Monte Carlo.",
        alt=_("{held} of {count} closed forms lie in the measured interval.").format(held=held, count=len(measured)),
    )
    st.caption(prose("favor", "theory_slice", draws=study.draws, inside=held, count=len(measured)))
    curves = mirror.tables["curves"]
    chart = curves_chart(
        curves[curves["deviation"] > 1e-3],
        page.theme,
        x=CurveAxis(column="angle", title=_("angle φ between x and y (radians)")),
        y=CurveAxis(column="deviation", title=_("error over the kernel (logarithmic)"), log=True),
        series=CurveSeries(column="features", colours=kind_colours(page.theme), points=False),
    )
    figure(
        page,
        "mirror",
        mirror,
        chart,
        table=curves,
        shown=Favor,
        title=_("A mirror"),
        caption="Relative error of three kinds of features by angle, at length 1.",
        alt=_("The curves of hyperbolic and trigonometric features mirror one another."),
    )
    st.caption(prose("favor", "theory_symmetry"))


def _sphere(page: Page, pairs: Result) -> None:
    study = SphereKernel()
    result = run(study)
    measured, bounds = result.tables["measured"], result.tables["bounds"]
    exact = [float(law.smreg_ratio(np.sqrt(square), int(d[4:]))) for square, d in zip(measured["sum_norm"], measured["d"])]
    formula(page, "smreg")
    figure(
        page,
        "sphere-kernel",
        result,
        measured_curves(
            result.tables["curves"],
            measured,
            page.theme,
            x=CurveAxis(column="sum_norm", title=_("‖x+y‖² (no unit)")),
            y=CurveAxis(column="ratio", title=_("SMREG over the softmax kernel (ratio)"), domain=(0.0, 1.05)),
            series="d",
        ),
        table=result.tables["curves"],
        shown=Favor,
        title=_("Directions on the sphere"),
        caption="SMREG over SM against the norm, for several widths, exact and Monte Carlo.",
        alt=_("The ratio falls from 1 as the norm grows, later for wider heads."),
    )
    words = prose("favor", "theory_smreg", draws=study.draws, inside=count_inside(measured, np.array(exact)), count=len(measured))
    norm, d = float(np.median(pairs.arrays["sum_norm"])), 64
    bound, holds = (float(bounds[bounds["d"] == d][name].iloc[0]) for name in ("bound", "holds_to"))
    section = "theory_bound" if np.isfinite(holds) else "theory_bound_holds"
    ratio = plain(float(law.smreg_ratio(np.sqrt(norm), d)))
    st.caption(f"{words} {prose('favor', section, d=d, bound=bound, holds=holds, norm=norm, ratio=ratio)}")


def _orthogonal(page: Page) -> None:
    result = run(Orthogonality())
    measured, curves = result.tables["measured"], result.tables["curves"]
    exact = [float(orthogonal_ratio(square, int(d[4:]))) for square, d in zip(measured["sum_norm"], measured["d"])]
    formula(page, "orthogonal")
    figure(
        page,
        "orthogonal-gain",
        result,
        measured_curves(
            curves,
            measured,
            page.theme,
            x=CurveAxis(column="sum_norm", title=_("‖x+y‖² (no unit)")),
            y=CurveAxis(column="ratio", title=_("MSE orthogonal over independent (ratio)"), domain=(0.5, 1.1)),
            series="d",
            rules=((1.0, _("independent directions")),),
        ),
        table=curves,
        shown=Favor,
        title=_("What orthogonal directions gain"),
        caption="Mean squared error with m = d orthogonal directions over that of independent ones, closed form and Monte Carlo.",
        alt=_("The ratio lies below 1 everywhere, lower for wider heads."),
    )
    st.caption(prose("favor", "theory_orthogonal", inside=count_inside(measured, np.array(exact)), count=len(measured)))
