"""A sweep: many independent measurements of one kind, each kept, so that a moved dial measures only what is new."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict

from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Progress, Result, Study


class Point(BaseModel):
    """Everything that one measurement depends on: the source, the setting, the seed. Subclasses add the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Row = dict[str, Any]
P = TypeVar("P", bound=Point)

_rows: SingleFlightCache[Row] = SingleFlightCache(size=8192)


class Sweep(Study, Generic[P]):
    """A study of points that know nothing of each other; the table `points` has a row for each, in their order.

    Subclasses name the points and measure one; `_tables` makes further tables (intervals over seeds) from the rows.
    Rows are kept by their point's content for all sweeps of the process. Raising from `progress` cancels between two
    points; what was measured until then is kept.
    """

    @abstractmethod
    def points(self) -> tuple[P, ...]:
        """The points of this sweep, in the order in which they are measured: what is cheap or most telling first."""

    @abstractmethod
    def measure(self, point: P) -> Row:
        """One row of the table: the point's own dials and what was measured, NaN where it cannot be had."""

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column that has one."""
        return {}

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Further tables made from the rows, which are never empty and may be incomplete."""
        return {}

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        """Sentences that belong to the rows: what was refused, what was cut."""
        return {}

    def name_of(self, point: P) -> str:
        """A few words for the progress bar."""
        return ""

    def _run(self, progress: Progress) -> Result:
        points = self.points()
        rows = []
        for index, point in enumerate(points):
            progress(index / len(points), self.name_of(point))
            rows.append(_rows.get(self._label(point), lambda point=point: self.measure(point)))  # type: ignore[misc]
        progress(1.0, "")
        return self._result(rows)

    def known(self) -> Result | None:
        """The result of the points that are measured already, without measuring any; None when there is none."""
        rows = [row for point in self.points() if (row := _rows.known(self._label(point))) is not None]
        return self._result(rows) if rows else None

    def _label(self, point: P) -> str:
        return f"{type(self).__qualname__} {type(point).__qualname__} {point.model_dump_json()}"

    def _result(self, rows: list[Row]) -> Result:
        table = pd.DataFrame.from_records(rows)
        table.attrs["units"] = self.units
        return Result(study=self, tables={"points": table, **self._tables(table)}, words=self._words(table))


def known_row(study: Sweep[P], point: P) -> Row | None:
    """The row of a point if it is measured already: for a point whose measuring hangs on what an earlier one took."""
    return _rows.known(study._label(point))


def powers_up_to(most: int, least: int = 1) -> tuple[int, ...]:
    """The places of a logarithmic axis: the powers of two from `least` on that are below `most`, and `most` itself."""
    powers = [2**i for i in range(20) if least <= 2**i < most]
    return (*powers, most)
