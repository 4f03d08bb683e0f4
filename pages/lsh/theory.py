"""Hashing in theory: the formula with today's numbers, and the collision curves with a count beside them."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from longattn_core.charts.figures.lsh import collision_chart
from longattn_core.measures.theory.hashing import bits_collide, cross_polytope_collision, found_at_least_once
from longattn_core.mechanisms.lsh import LSH
from longattn_core.studies.lsh.collision import LshCollision
from longattn_core.studies.lsh.directions import LshPlane
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose
from pages.lsh.hero import HashingRun, directions, rounds_words


def theory(page: Page, hashed: HashingRun) -> None:
    """Formulas, the curve, and what the papers add."""
    mechanism = hashed.mechanism
    hyperplane = mechanism.hashing == "hyperplane"
    columns = max(1, (mechanism.buckets - 1).bit_length()) if hyperplane else max(1, mechanism.buckets // 2)
    d = hashed.result.study.sequence().d
    formula(page, "hash_hyperplane" if hyperplane else "hash", d=d, columns=columns)
    plane = run(
        LshPlane(source=page.source, setting=hashed.setting, round=hashed.round, query=hashed.query, marked=hashed.marked)
    )
    if "angle" in plane.arrays and mechanism.buckets > 1:
        angle = float(plane.arrays["angle"])
        chance = (
            bits_collide(math.radians(angle), columns)
            if hyperplane
            else cross_polytope_collision(math.radians(angle), mechanism.buckets)
        )
        p = float(chance)
        rounds = float(found_at_least_once(p, mechanism.rounds))
        formula(page, "rounds", rounds=rounds_words(mechanism.rounds), r=mechanism.rounds, p=p, found=rounds, angle=angle)
    finding = directions(page)
    marked = [
        (value, label)
        for value, label in ((finding.weighted_angle, _("as it is")), (finding.centred_weighted_angle, _("centred")))
        if np.isfinite(value)
    ]
    result = run(LshCollision(source=page.source, buckets=mechanism.buckets, rounds=mechanism.rounds))
    figure(
        page,
        "hashing-collision",
        result,
        collision_chart(result.tables["curves"], result.tables["simulated"], page.theme, marked=marked),
        table=result.tables["curves"],
        shown=LSH,
        caption=_("Chance of sharing a bucket against the angle, {buckets} buckets, closed form and count.").format(
            buckets=mechanism.buckets
        ),
        alt=_(
            "Curves that fall from one at 0 degrees to about none at 180; the nearest axis falls more steeply than hyperplanes."
        ),
    )
    st.caption(prose("lsh", "collision", **hashed.numbers))
    st.markdown(prose("lsh", "theory"))
