"""Sweeps on a page: they run in the background, draw the points that are there, show their progress, and can be cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from longattn_core import jobs
from longattn_core.studies.base.study import Result
from longattn_core.studies.base.sweep import Sweep
from pages.kit.context import Page
from pages.kit.fragments import fragment
from pages.kit.text import _, escaped

BEAT = 0.8
"""Seconds between two looks at a job that runs."""


def sweep_card(page: Page, study: Sweep[Any], draw: Callable[[Result], None], *, later: bool = False) -> None:
    """Run a sweep in the background and draw what is measured already; the page is free meanwhile.

    `draw` gets a result with the points so far, and again when there are more. What was measured for another setting of a
    dial is used again. A cancelled sweep keeps its points and can go on. `later` lets the browser draw the page first: a
    sweep that nobody has begun waits for the first beat.
    """
    waiting = later and not jobs.begun(study) and study.known() is None
    job = None if waiting else jobs.job(study)
    ended = job is not None and job.ended.is_set()
    if not ended:
        page.beats()
    mark = f"_runs {page.name} {study.key}"

    def card() -> None:
        nonlocal job, waiting
        if waiting:
            waiting, st.session_state[mark] = False, True
            st.progress(0.0, text=_("Measuring …"))
            return
        job = job or jobs.job(study)
        if job.fault is not None:
            raise job.fault
        finished = job.ended.is_set()
        if not finished:
            job.look()
        known = study.known()
        if known is not None:
            draw(known)
        if not finished:
            _running(job)
        elif job.error is not None:
            st.info(escaped(job.error), icon=":material/block:")
        elif job.cancelled:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(_("Stopped at {share:.0%}; the points so far are kept.").format(share=job.share))
                if st.button(_("Go on"), key=f"go on {study.key}"):
                    jobs.job(study, again=True)
                    st.rerun()
        if finished and st.session_state.pop(mark, False):
            # The last beat: the whole page runs once more, and this card stops looking.
            st.rerun()
        if not finished:
            st.session_state[mark] = True

    fragment(card, run_every=None if ended else BEAT)


def _running(job: jobs.Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(job.share, 1.0), text=job.words or _("Measuring …"))
        if st.button(_("Cancel"), key=f"cancel {job.study.key}"):
            job.cancel()
