"""Sweeps, their background jobs and their intervals."""

import math
import threading
import uuid

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from longattn_core import jobs
from longattn_core.sequences.sources import SyntheticSource
from longattn_core.sequences.synthetic import synthetic
from longattn_core.studies.base.intervals import interval, summarised
from longattn_core.studies.base.sweep import Point, Sweep

SOURCE = SyntheticSource(settings=synthetic("gaussian", n=8))
MEASURED: list[int] = []
GATE = threading.Event()
STARTED = threading.Event()


class Number(Point):
    value: int
    run: str


class Numbers(Sweep):
    """Squares of numbers; each measurement is noted, so that a test can see what was measured anew."""

    key = "numbers"
    values: tuple[int, ...] = (1, 2, 3)
    run_name: str = ""
    gated: bool = False

    def points(self):
        return tuple(Number(value=value, run=self.run_name) for value in self.values)

    def measure(self, point):
        if self.gated:
            STARTED.set()
            assert GATE.wait(60)
        if point.value < 0:
            raise ValueError("numbers must not be negative")
        MEASURED.append(point.value)
        return {"value": point.value, "square": point.value**2}

    def name_of(self, point):
        return f"number {point.value}"

    def _tables(self, rows):
        return {"mean": pd.DataFrame({"mean": [rows["square"].mean()]})}


def numbers(**fields):
    MEASURED.clear()
    return Numbers(source=SOURCE, **{"run_name": uuid.uuid4().hex, **fields})


def test_a_sweep_gives_a_row_a_point_in_their_order_and_its_tables():
    result = numbers(values=(3, 1, 2)).run()
    assert list(result.tables["points"]["square"]) == [9, 1, 4]
    assert result.tables["mean"]["mean"].iloc[0] == pytest.approx(14 / 3, rel=1e-12)


def test_a_moved_dial_measures_only_what_is_new():
    study = numbers()
    study.run()
    MEASURED.clear()
    more = study.model_copy(update={"values": (2, 3, 4)})
    assert list(more.known().tables["points"]["value"]) == [2, 3]
    assert MEASURED == []
    more.run()
    assert MEASURED == [4]


def test_known_measures_nothing_and_is_none_before_the_first_point():
    assert numbers().known() is None
    assert MEASURED == []


def test_progress_names_each_point_and_raising_from_it_cancels():
    study, seen = numbers(), []

    def progress(share, words):
        seen.append((round(share, 3), words))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(progress)
    assert seen == [(0.0, "number 1"), (0.333, "number 2"), (0.667, "number 3")]
    assert list(study.known().tables["points"]["value"]) == [1, 2]


def test_a_job_runs_behind_and_is_one_for_all_who_ask():
    study = numbers()
    first = jobs.job(study)
    assert jobs.job(study) is first
    jobs.settle(60)
    assert first.share == 1.0
    assert first.error is None
    assert sorted(MEASURED) == [1, 2, 3]


def test_a_cancelled_job_keeps_its_points_and_can_go_on():
    GATE.clear()
    STARTED.clear()
    study = numbers(gated=True)
    job = jobs.job(study)
    assert STARTED.wait(60)
    job.cancel()
    GATE.set()
    assert job.ended.wait(60)
    assert job.cancelled
    assert list(study.known().tables["points"]["value"]) == [1]
    assert jobs.job(study) is job
    jobs.job(study, again=True)
    jobs.settle(60)
    assert len(study.known().tables["points"]) == 3


def test_the_end_of_the_process_calls_off_what_runs(monkeypatch):
    monkeypatch.setattr(jobs, "LAST_STEP", 0.0)
    GATE.clear()
    STARTED.clear()
    job = jobs.job(numbers(gated=True))
    assert STARTED.wait(60)
    jobs._end_all()
    GATE.set()
    assert job.ended.wait(60)
    assert job.cancelled


def test_a_job_that_nobody_looks_at_ends_by_itself(monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", -1.0)
    job = jobs.job(numbers())
    assert job.ended.wait(60)
    assert job.cancelled
    assert MEASURED == []


def test_a_job_that_was_left_begins_again_when_somebody_looks(monkeypatch):
    study = numbers()
    monkeypatch.setattr(jobs, "PATIENCE", -1.0)
    left = jobs.job(study)
    assert left.ended.wait(60)
    monkeypatch.undo()
    assert jobs.job(study) is not left
    jobs.settle(60)
    assert len(study.known().tables["points"]) == 3


def test_a_refusal_of_the_study_is_a_sentence_of_the_job():
    job = jobs.job(numbers(values=(1, -1)))
    assert job.ended.wait(60)
    assert job.error == "numbers must not be negative"


def test_intervals_are_students_and_leave_out_what_is_no_number():
    x = np.array([1.0, 2.0, 4.0, np.nan])
    mean, low, high = interval(x)
    expected = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1, 2, 4]))
    assert mean == pytest.approx(7 / 3, rel=1e-12)
    assert (low, high) == pytest.approx(expected, rel=1e-9)
    assert interval([5.0]) == (5.0, 5.0, 5.0)
    assert all(math.isnan(end) for end in interval([np.nan]))


def test_logarithmic_intervals_stay_above_zero():
    mean, low, high = interval([1e-6, 1.0, 10.0, -1.0], log=True)
    assert mean == pytest.approx((1e-6 * 1.0 * 10.0) ** (1 / 3), rel=1e-9)
    assert 0 < low < mean < high


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = sum(low <= 1.0 <= high for _m, low, high in (interval(rng.normal(1, 2, 5)) for _ in range(1000)))
    # Binomial(1000, .95) lies within 930 … 970 with a probability of .996.
    assert 930 <= covered <= 970


def test_summaries_keep_the_order_of_groups_and_their_units():
    rows = pd.DataFrame({"m": [8, 8, 4, 4], "error": [1.0, 3.0, 5.0, np.nan]})
    rows.attrs["units"] = {"error": "share"}
    table = summarised(rows, by=["m"], value="error")
    assert list(table["m"]) == [8, 4]
    assert list(table["error"]) == [2.0, 5.0]
    assert list(table["count"]) == [2, 1]
    assert table.attrs["units"]["low"] == "share"
