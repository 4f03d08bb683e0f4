"""Runs studies once for all visitors: results are cached by the study's content, and as many studies run as there are cores."""

from __future__ import annotations

import os
import threading

from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Progress, Result, Study

_results: SingleFlightCache[Result] = SingleFlightCache(size=256)
_slots = threading.BoundedSemaphore(os.cpu_count() or 1)


def run(study: Study, progress: Progress | None = None) -> Result:
    """The study's result: from the cache, or computed once however many ask at the same time.

    At most one study runs for each core and the others wait. This bounds the memory when a whole class is online, and all of
    them together take no longer. Raises: ValueError, one sentence, when the source gives no sequence.
    """

    def compute() -> Result:
        with _slots:
            return study.run(progress)

    return _results.get(f"{study.key} {study.model_dump_json()}", compute)
