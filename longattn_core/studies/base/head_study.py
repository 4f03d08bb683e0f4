"""Studies of one head of a sequence, and of one setting of a mechanism on it: what most studies have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.contracts.mechanism import Mechanism, Refused
from longattn_core.contracts.sequence import Sequence
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.run import MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Result, Setting, Study

M = TypeVar("M", bound=Mechanism)


class HeadStudy(Study):
    """A study of one head of its source's sequence."""

    head: int = Field(0, ge=0, le=63)

    def head_in(self, sequence: Sequence) -> int:
        """The head's number within a sequence: the last one where the sequence has fewer."""
        return min(self.head, sequence.h - 1)

    def _result_of(self, context: Parts, measure: Callable[[], Parts]) -> Result:
        """The context and what `measure` computes; where that raises `Refused`, the context and `words["refusal"]`."""
        try:
            parts = measure()
        except Refused as refused:
            parts = Parts(words={"refusal": str(refused)})
        return Result(
            study=self,
            arrays={**context.arrays, **parts.arrays},
            tables={**context.tables, **parts.tables},
            words={**context.words, **parts.words},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What a study adds to its result: arrays, tables and words, by name."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


class MechanismStudy(HeadStudy, Generic[M]):
    """A study of one setting of one kind of mechanism, which may refuse the sequence.

    Subclasses name the kind in `reads`, give `setting` its default, and compute in `_measure`. There is one way to refuse:
    whatever raises `Refused` on the way, `words["refusal"]` holds its sentence in place of what could not be computed. What
    is there in both cases comes from `_context`: the array `tokens`, the words `label` and `origin`.
    """

    reads: ClassVar[Any]
    """M itself: the class that the setting must be of."""
    setting: Setting

    @abstractmethod
    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        """Compute from a run whose setting could read the sequence; `run.attended_as(kind)` is its map."""

    def mechanism(self) -> M:
        """The setting as a mechanism. Raises: ValueError when it is of another kind than `reads`."""
        built: M = self.setting.build_as(self.reads)
        return built

    def _runs(self) -> MechanismRun:
        """The run that the study is about; a study of another run than the setting's own overrides this."""
        return kept_run(self.source, self.mechanism())

    def _context(self, run: MechanismRun) -> Parts:
        """What the result holds even where the mechanism refuses."""
        words = {"label": run.mechanism.label, "origin": run.sequence.origin}
        return Parts(arrays={"tokens": token_array(run.sequence)}, words=words)

    def _run(self, progress: Progress) -> Result:
        run = self._runs()

        def measure() -> Parts:
            run.attended_or_raise()
            return self._measure(run, progress)

        return self._result_of(self._context(run), measure)
