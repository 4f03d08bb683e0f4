"""Long work in the background: one job a study however many ask, with progress, and an end when nobody waits any more.

Source: ours, on the standard library's threads. Torch and numpy let go of the interpreter while they compute, so a thread
is enough. One process serves all; work for other processes goes through the studies' JSON.
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
"""Seconds after which a job that nobody has looked at ends by itself; what it measured is kept."""
KEPT = 64
LAST_STEP = 10.0
"""Seconds that the process's end waits for a job's step."""

_places = threading.BoundedSemaphore(max(1, (os.cpu_count() or 2) - 1))
"""Jobs at a time: one core stays free for those who only turn a page."""


NICE = 10
"""How far a job steps back behind the threads that answer visitors, on systems that know threads' priorities."""


class Cancelled(Exception):  # noqa: N818  (it is a wish, not a fault)
    """Raised inside a study, from its progress, when its job has been called off."""


class Job:
    """A study that runs, or has run, in the background. `share` 0 … 1 is done; `error` is a sentence, or None."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.share, self.words = 0.0, ""
        self.error: str | None = None
        self.fault: Exception | None = None
        self.cancelled = False
        self.ended = threading.Event()
        self.called_off = False
        self._looked_at = time.monotonic()
        threading.Thread(target=self._work, daemon=True, name=f"job {study.key}").start()

    def look(self) -> None:
        """Say that somebody still waits."""
        self._looked_at = time.monotonic()

    def cancel(self) -> None:
        """Call it off; it ends at its next step."""
        self.called_off = True

    def _progress(self, share: float, words: str) -> None:
        self.share, self.words = share, words
        if share < 1.0 and (self.called_off or time.monotonic() - self._looked_at > PATIENCE):
            raise Cancelled

    def _work(self) -> None:
        step_back()
        try:
            with _places:
                self._progress(0.0, "")
                self.study.run(self._progress)
            self.share = 1.0
        except Cancelled:
            self.cancelled = True
        except ValueError as error:
            self.error = str(error)
        except Exception as error:
            # A fault of ours: whoever looks at the job next raises it, so that it is seen and logged.
            self.fault = error
        finally:
            self.ended.set()


def step_back() -> None:
    """Let the threads that answer visitors go before this one."""
    if sys.platform == "linux":
        # On Linux the priority is a thread's own, as long as it is named by its number.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


_jobs: OrderedDict[str, Job] = OrderedDict()
_guard = threading.Lock()


def job(study: Study, *, again: bool = False) -> Job:
    """The job of a study: the one that runs or has run, or a new one.

    One that ended because nobody looked is started anew; one that was called off only when `again` asks for it.
    """
    name = _name(study)
    with _guard:
        found = _jobs.get(name)
        left = found is not None and found.cancelled and not found.called_off
        if found is None or found.fault is not None or left or (again and found.cancelled):
            found = _jobs[name] = Job(study)
        _jobs.move_to_end(name)
        for old in [key for key, one in _jobs.items() if one.ended.is_set()][: max(0, len(_jobs) - KEPT)]:
            del _jobs[old]
    found.look()
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
    for one in list(_jobs.values()):
        while not one.ended.wait(1.0):
            one.look()
            if time.monotonic() > until:
                raise TimeoutError(f"the job {one.study.key!r} is at {one.share:.0%} after {patience:.0f} s")


@atexit.register
def _end_all() -> None:
    """Call off what runs and wait for its step: torch does not survive the end of a process with a thread inside it."""
    running = [one for one in list(_jobs.values()) if not one.ended.is_set()]
    for one in running:
        one.cancel()
    for one in running:
        one.ended.wait(LAST_STEP)
