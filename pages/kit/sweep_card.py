"""Sweeps on a page: a sweep runs in the background, its points are drawn as they come, and it can be cancelled."""

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

POLL_INTERVAL = 0.8
"""Seconds after which the card of a running job is drawn anew."""


def sweep_card(page: Page, study: Sweep[Any], draw: Callable[[Result], None], *, later: bool = False) -> None:
    """Run a sweep in the background and draw the points that are measured; the page can be used meanwhile.

    `draw` gets a result with the points so far, and is called again when there are more. Points that were measured for another
    value of a dial are used again. A cancelled sweep keeps its points and can go on. With `later` a sweep that nobody has begun
    starts when the card is drawn for the second time, so that the browser has drawn the page by then.
    """
    waiting = later and not jobs.begun(study) and study.known() is None
    job = None if waiting else jobs.job(study)
    ended = job is not None and job.ended.is_set()
    if not ended:
        page.polls()
    running_mark = f"_runs {page.name} {study.key}"

    def card() -> None:
        nonlocal job, waiting
        if waiting:
            waiting, st.session_state[running_mark] = False, True
            st.progress(0.0, text=_("Measuring …"))
            return
        job = job or jobs.job(study)
        if job.fault is not None:
            raise job.fault
        finished = job.ended.is_set()
        if not finished:
            job.keep_alive()
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
        if finished and st.session_state.pop(running_mark, False):
            # The job has ended since the last drawing: the whole page runs once more, and the card is polled no longer.
            st.rerun()
        if not finished:
            st.session_state[running_mark] = True

    fragment(card, run_every=None if ended else POLL_INTERVAL)


def _running(job: jobs.Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(job.share, 1.0), text=job.words or _("Measuring …"))
        if st.button(_("Cancel"), key=f"cancel {job.study.key}"):
            job.cancel()
