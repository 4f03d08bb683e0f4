"""Studies that run in the background: one job for each study however many ask, with progress and cancelling.

A job is a daemon thread: torch and numpy release the interpreter while they compute. An executor of the standard library would
not do: it joins its threads when the process ends, however long they take, and it cannot stop a job that nobody waits for.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import OrderedDict

from longattn_core.studies.base.study import Study

PATIENCE = 20.0
"""Seconds without a call of `Job.keep_alive` after which a job cancels itself. Its study keeps the points measured so far."""
KEPT = 64
"""Jobs that are remembered after their end."""
LAST_STEP = 10.0
"""Seconds that the end of the process waits for the current step of a job."""
NICE = 10
"""Added to the nice value of a job's thread, so that the threads that answer visitors run first."""

_slots = threading.BoundedSemaphore(max(1, (os.cpu_count() or 2) - 1))
"""Jobs at a time: one core stays free for the pages."""


class Cancelled(Exception):  # noqa: N818  (a request, not an error)
    """Raised inside a study, by its progress callback, when its job was cancelled."""


class Job:
    """A study that runs, or has run, in the background.

    `share` is the part done, 0 … 1, and `words` what is computed at the moment. After the end one of these may be set: `error`, a
    sentence for the visitor; `fault`, an exception that is an error of the program; `cancelled`.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.share, self.words = 0.0, ""
        self.error: str | None = None
        self.fault: Exception | None = None
        self.cancelled = False
        self.ended = threading.Event()
        self.cancel_requested = False
        self._last_wanted = time.monotonic()
        threading.Thread(target=self._work, daemon=True, name=f"job {study.key}").start()

    def keep_alive(self) -> None:
        """Say that somebody still waits for the result."""
        self._last_wanted = time.monotonic()

    def cancel(self) -> None:
        """Ask the job to end; it ends at its next step."""
        self.cancel_requested = True

    def _progress(self, share: float, words: str) -> None:
        self.share, self.words = share, words
        if share < 1.0 and (self.cancel_requested or time.monotonic() - self._last_wanted > PATIENCE):
            raise Cancelled

    def _work(self) -> None:
        lower_priority()
        try:
            with _slots:
                self._progress(0.0, "")
                self.study.run(self._progress)
            self.share = 1.0
        except Cancelled:
            self.cancelled = True
        except ValueError as error:
            self.error = str(error)
        except Exception as error:
            # An error of the program: the page that draws the job next raises it, so that it is seen and logged.
            self.fault = error
        finally:
            self.ended.set()


def lower_priority() -> None:
    """Let the threads that answer visitors run before the calling thread (on Linux only)."""
    if sys.platform == "linux":
        # Linux has a priority for each thread, when the thread is named by its number.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


_jobs: OrderedDict[str, Job] = OrderedDict()
_guard = threading.Lock()


def job(study: Study, *, again: bool = False) -> Job:
    """The job of a study: the one that runs or has run, or a new one.

    A job that ended because nobody waited is started anew; a job that a visitor cancelled only with `again`.
    """
    name = _name(study)
    with _guard:
        found = _jobs.get(name)
        abandoned = found is not None and found.cancelled and not found.cancel_requested
        if found is None or found.fault is not None or abandoned or (again and found.cancelled):
            found = _jobs[name] = Job(study)
        _jobs.move_to_end(name)
        for old in [key for key, kept in _jobs.items() if kept.ended.is_set()][: max(0, len(_jobs) - KEPT)]:
            del _jobs[old]
    found.keep_alive()
    return found


def begun(study: Study) -> bool:
    """Whether a job of this study runs or has run."""
    with _guard:
        return _name(study) in _jobs


def _name(study: Study) -> str:
    return f"{study.key} {study.model_dump_json()}"


def settle(patience: float = 600.0) -> None:
    """Wait until no job runs: for tests and scripts. Raises: TimeoutError when they take longer than `patience` seconds."""
    until = time.monotonic() + patience
    for waited in list(_jobs.values()):
        while not waited.ended.wait(1.0):
            waited.keep_alive()
            if time.monotonic() > until:
                raise TimeoutError(f"the job {waited.study.key!r} is at {waited.share:.0%} after {patience:.0f} s")


@atexit.register
def _end_all() -> None:
    """Cancel all jobs and wait for their current step: torch crashes when the process ends while a thread is inside it."""
    running = [started for started in list(_jobs.values()) if not started.ended.is_set()]
    for started in running:
        started.cancel()
    for started in running:
        started.ended.wait(LAST_STEP)
