"""Studies run once for all visitors: kept by their content, and no more heavy ones at a time than there are cores."""

from __future__ import annotations

import os
import threading

from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Progress, Result, Study

_results: SingleFlightCache[Result] = SingleFlightCache(size=256)
_places = threading.BoundedSemaphore(os.cpu_count() or 1)


def run(study: Study, progress: Progress | None = None) -> Result:
    """The study's result: kept from before, or computed once however many ask.

    At most one heavy study a core runs at a time and the others wait, which bounds the memory of a full class and
    costs nobody time. Raises: ValueError, one sentence, when the source gives no sequence.
    """

    def compute() -> Result:
        with _places:
            return study.run(progress)

    return _results.get(f"{study.key} {study.model_dump_json()}", compute)
