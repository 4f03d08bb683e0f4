"""What attention costs: formulas against what was counted, crossings against brute force, who pays, the bounded clock."""

import math
import threading
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from longattn_core import Sequence, jobs
from longattn_core.charts.figures.cost import cost_chart, crossing_marks, multiples_chart
from longattn_core.charts.style.altair import specification
from longattn_core.charts.style.theme import Theme
from longattn_core.contracts.mechanism import Cost, Mechanism
from longattn_core.measures.cost import doublings, hollow
from longattn_core.registry import mechanism
from longattn_core.sequences.sources import SyntheticSource
from longattn_core.sequences.synthetic import synthetic
from longattn_core.studies.base import sweep
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.cost import CostCurves, CostTimes, SparseLimits, break_even, curves, limits, timing
from longattn_core.studies.cost.break_even import clock_against_count, crossing_between, value_at
from longattn_core.studies.cost.curves import LENGTHS, MEMORY, QUANTITIES, Shape, crossing, showcased, whole_map_ends
from pages.cost import hero as cost_hero
from pages.cost.curves import without_gaps
from pages.cost.step import large
from tests.support.sizes import largest_tensor

SHOWN = showcased()
BY_CONTENT = ("lsh", "routed", "probsparse")
"""Whose counts hang on what is read: a formula is right on average."""


def unit(n, causal=True, d=16, e=24):
    draw = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(1, n, width, generator=draw) for width in (d, d, e))
    return Sequence(q=q, k=k, v=v, causal=causal)


def source(n=96, **dials):
    return SyntheticSource(settings=synthetic("gaussian", n=n, d=16, e=16, **dials))


@pytest.fixture(scope="module")
def run():
    return CostCurves(source=source(), keys=32).run()


# ------------------------------------------------------------------------------------------ formulas against counts


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 65, 300])
@pytest.mark.parametrize("label", SHOWN)
def test_a_formula_gives_what_is_counted_when_a_sequence_is_read(label, n, causal):
    setting, sequence = SHOWN[label].with_budget(min(32, n), n), unit(n, causal)
    if setting.refuses(sequence) is not None:
        pytest.skip("it refuses this mask")
    formula = setting.estimated_cost(hollow(n, d=16, e=24, causal=causal))
    counted = setting.attend(sequence).cost
    if setting.key not in BY_CONTENT:
        assert formula == counted
        return
    assert formula.bytes_peak == counted.bytes_peak
    if n == 1:
        return
    # Two blocks more or less count much among a handful of them.
    room = 1.35 if n >= 200 else 1.6
    assert 1 / room <= formula.multiply_adds / counted.multiply_adds <= room


@pytest.mark.parametrize("label", [label for label, shown in SHOWN.items() if shown.key in ("lsh", "routed")])
def test_blindly_filled_buckets_count_as_gaussian_heads_fall(label):
    n = 1500
    setting = SHOWN[label].with_budget(64, n)
    formula = setting.estimated_cost(hollow(n, d=16, e=24, causal=False)).multiply_adds
    assert formula == pytest.approx(setting.attend(unit(n, causal=False)).cost.multiply_adds, rel=0.1)


@pytest.mark.parametrize(
    "setting",
    [
        mechanism("window", variant="selected"),
        mechanism("window", variant="bigbird"),
        mechanism("hierarchical", variant="h1d"),
        mechanism("hierarchical", variant="near_far"),
        mechanism("memory", variant="compressed"),
        mechanism("segmented", variant="second"),
        mechanism("lsh", order_by="chunks"),
        mechanism("relative", variant="shaw"),
        mechanism("low_rank", variant="linformer"),
        mechanism("favor", variant="trigonometric"),
    ],
    ids=repr,
)
def test_every_other_variant_has_a_count_too(setting):
    causal = setting.refuses(unit(8)) is None
    shape = hollow(200, d=16, e=24, causal=causal)
    counted = setting.attend(unit(200, causal)).cost
    assert setting.estimated_cost(shape).multiply_adds == pytest.approx(counted.multiply_adds, rel=0.25)


def test_a_mechanism_without_a_formula_of_its_own_attends():
    window = mechanism("window", variant="sinks", width=8)
    assert Mechanism.estimated_cost(window, unit(40)) == window.attend(unit(40)).cost


def test_a_shape_without_content_holds_nothing_but_its_positions():
    assert largest_tensor(lambda: hollow(65_536, d=64, e=64, causal=True)) <= 65_536


def test_a_formula_reads_nothing(monkeypatch):
    for shown in SHOWN.values():
        monkeypatch.setattr(type(shown), "_attend", lambda *_: pytest.fail("it attended"))
    shape = hollow(4096, d=64, e=64, causal=True)
    for shown in SHOWN.values():
        if shown.refuses(shape) is None:
            assert shown.with_budget(64, 4096).estimated_cost(shape).multiply_adds > 0


# ---------------------------------------------------------------------------------------------------------- crossings


def counts(label, n, keys, shape):
    return curves.counted(SHOWN[label], keys, n, shape).cost


@pytest.mark.parametrize("keys", [16, 32])
@pytest.mark.parametrize("label", ["Window + sinks", "Memory: cache", "FAVOR+ positive", "Segments"])
def test_crossings_are_those_of_brute_force(label, keys):
    table = CostCurves(source=source(), keys=keys).run().tables["crossings"]
    shape = Shape(d=16, e=16, causal=True)
    cost = cache(lambda label, n: counts(label, n, keys, shape))
    for what in ("multiply_adds", "bytes_moved"):
        found = float(table[(table["label"] == label) & (table["quantity"] == what)]["n"].iloc[0])

        def cheaper(n, what=what):
            return shape.of(cost(label, n), what, n) < shape.of(cost("Exact attention", n), what, n)

        last = max((n for n in range(64, 1100) if not cheaper(n)), default=63)
        if last == 63 or found == 64:
            # Ragged blocks make a curve jump at single lengths; at the lengths that are drawn it lies below throughout.
            assert found == 64
            assert all(cheaper(n) for n in LENGTHS[:5])
        else:
            assert cheaper(round(found))
            assert any(not cheaper(n) for n in range(max(64, round(found * (1 - 1 / curves.FINE)) - 1), round(found)))
            assert all(cheaper(n) for n in LENGTHS if found <= n <= 2048)


@pytest.mark.parametrize("at", [64, 65, 100, 511, 512, 513, 700, 4097, 65536])
def test_halving_finds_the_place_where_it_changes(at):
    asked = []

    def cheaper(n):
        asked.append(n)
        return n >= at

    found = crossing(cheaper, list(LENGTHS))
    assert at <= found <= at * (1 + 1 / curves.FINE)
    assert at > 2 * curves.FINE or found == at
    assert len(asked) < 30


def test_what_is_cheaper_for_a_while_only_does_not_pay():
    assert math.isnan(crossing(lambda n: 100 < n < 5000, list(LENGTHS)))
    assert crossing(lambda n: n < 100 or n >= 3000, list(LENGTHS)) == pytest.approx(3000, rel=1 / curves.FINE)
    assert math.isnan(crossing(lambda _n: True, []))
    assert math.isnan(crossing(lambda _n: False, list(LENGTHS)))


def test_the_rings_stand_on_exact_attentions_line(run):
    table, what = run.tables["crossings"], "multiply_adds"
    marks = crossing_marks(run.tables["points"], table[table["quantity"] == what], what)
    assert len(marks) >= 6
    for _index, row in marks.iterrows():
        n = round(row["n"])
        assert row["value"] == pytest.approx(n * (n + 1) / 2 * 32, rel=0.05)


# -------------------------------------------------------------------------------------------------- the study's tables


def test_every_showcased_mechanism_stands_at_every_length(run):
    points = run.tables["points"]
    assert set(points["label"]) == set(SHOWN)
    assert set(points["n"]) == {*LENGTHS, 96}
    assert int(run.arrays["n"]) == 96
    refused = points[points["multiply_adds"].isna()]
    assert (refused["refusal"] != "").all()
    assert "Nyström" in set(refused["label"])
    assert points.attrs["units"]["bytes_held"] == "bytes"
    assert set(run.tables["complexity"].attrs["units"]) >= {
        "exponent",
        "memory exponent",
        "pays from",
        "memory ends",
        *QUANTITIES,
    }
    assert run.tables["crossings"].attrs["units"] == {"n": "tokens"}


def test_exact_attention_grows_with_the_square_and_a_window_with_n(run):
    table = run.tables["complexity"].set_index("key")
    assert table.loc["exact", "exponent"] == pytest.approx(2, abs=0.001)
    assert table.loc["window", "exponent"] == pytest.approx(1, abs=0.02)
    assert table.loc["favor", "exponent"] == pytest.approx(1, abs=0.01)
    assert run.tables["complexity"].set_index("label").loc["SVD (oracle)", "exponent"] == pytest.approx(3, abs=0.05)
    assert table.loc["exact", "textbook"] == "n²·d"


def test_more_keys_pay_later(monkeypatch):
    monkeypatch.setattr(curves, "showcased", lambda: {label: s for label, s in SHOWN.items() if s.key == "favor"})
    favor = [
        CostCurves(source=source(), keys=keys).run().tables["crossings"].query("key == 'favor' and quantity == 'multiply_adds'")
        for keys in (32, 64, 128)
    ]
    ends = [float(table["n"].iloc[0]) for table in favor]
    assert 64 < ends[0] < ends[1] < ends[2]


def test_the_whole_map_ends_where_it_fills_the_memory():
    shape = Shape(d=64, e=64, causal=True)
    n = whole_map_ends(shape)
    held = [4 * (m * m + 2 * m * 128) for m in (n, n + 1)]
    assert held[0] <= MEMORY < held[1]
    assert curves.whole_map([n], shape)["bytes_held"].iloc[0] == held[0]


def test_what_is_held_counts_the_inputs(run):
    points = run.tables["points"]
    one = points[(points["key"] == "exact") & (points["n"] == 4096)].iloc[0]
    setting = mechanism("exact").estimated_cost(hollow(4096, d=16, e=16, causal=True))
    assert one["bytes_held"] == setting.bytes_peak + 4 * 4096 * 64


def test_where_memory_ends_goes_on_by_the_last_growth():
    line = {64: 1e6, 128: 2e6}
    assert curves._ends(line) == pytest.approx(64 + (MEMORY - 1e6) * 64 / 1e6)
    square = {n: 4.0 * n * n for n in LENGTHS}
    assert curves._ends(square) == pytest.approx(65536, rel=1e-6)
    assert math.isnan(curves._ends({64: 1e6}))


# ------------------------------------------------------------------------------------------------------- who pays


def points(exact, **others):
    lengths = (64, 128, 256)
    rows = [("exact", "Exact", n, value) for n, value in zip(lengths, exact, strict=True)]
    rows += [(name, name, n, v) for name, values in others.items() for n, v in zip(lengths, values, strict=True)]
    table = pd.DataFrame(rows, columns=["key", "label", "n", "cost"])
    return table.assign(approximates=True)


def crossings(**at):
    return pd.DataFrame({"key": list(at), "label": list(at), "n": list(at.values())})


@pytest.mark.parametrize(
    ("others", "at", "kind"),
    [
        ({"a": (1, 1, 1), "b": (2, 2, 2)}, {"a": 64.0, "b": 64.0}, "most"),
        ({"a": (1, 1, 1), "b": (9, 9, 9)}, {"a": 64.0, "b": np.nan}, "few"),
        ({"a": (9, 9, 9), "b": (9, 9, 1)}, {"a": np.nan, "b": 200.0}, "later"),
        ({"a": (9, 9, 9), "b": (9, 9, 9)}, {"a": np.nan, "b": np.nan}, "never"),
        ({"a": (4, 4, 4)}, {"a": np.nan}, "never"),
        ({"a": (9, 9, 9)}, {"a": 100.0}, "never"),
    ],
)
def test_the_sentence_goes_with_the_numbers(others, at, kind):
    found = break_even(points((4, 4, 4), **others), crossings(**at), "cost", 128)
    assert found.kind == kind
    assert found.never == tuple(name for name, n in at.items() if math.isnan(n))


def test_the_cheapest_comes_first_with_its_share():
    table = points((8, 8, 8), a=(4, 4, 4), b=(2, 2, 2), c=(9, 9, 9), d=(np.nan, np.nan, np.nan))
    found = break_even(table, crossings(a=100.0, b=64.0, c=np.nan), "cost", 128)
    assert (found.cheaper, found.readable) == (("b", "a"), 3)
    assert found.shares == pytest.approx((0.25, 0.5))
    assert (found.first, found.last, found.never) == (("b", 64.0), ("a", 100.0), ("c",))


def test_a_mechanism_that_computes_another_score_is_not_among_them():
    table = points((8, 8, 8), a=(4, 4, 4))
    found = break_even(table.assign(approximates=table["key"] == "exact"), crossings(), "cost", 128)
    assert (found.kind, found.readable) == ("never", 0)


def test_without_exact_attentions_number_nothing_is_said():
    assert break_even(points((np.nan,) * 3, a=(1, 1, 1)), crossings(a=64.0), "cost", 128).kind == "waiting"
    assert break_even(points((4, 4, 4), a=(1, 1, 1)), crossings(a=64.0), "cost", 1000).kind == "waiting"


def test_between_two_lengths_a_power_law_stands():
    lengths, costs = np.array([256.0, 64.0, 128.0]), np.array([16.0, 1.0, np.nan])
    assert value_at(lengths, costs, 128) == pytest.approx(4)
    assert math.isnan(value_at(lengths, costs, 32))


def test_measured_curves_cross_on_straight_lines():
    exact = pd.DataFrame({"n": [64, 128, 256, 512], "cost": [1.0, 4.0, 16.0, 64.0]})
    linear = exact.assign(cost=[3.0, 6.0, 12.0, 24.0])
    assert crossing_between(linear, exact, "cost") == pytest.approx(192)
    assert math.isnan(crossing_between(exact.assign(cost=100.0), exact, "cost"))
    assert crossing_between(exact.assign(cost=0.1), exact, "cost") == pytest.approx(64)
    again = exact.assign(cost=[0.5, 6.0, 12.0, 24.0])
    assert crossing_between(again, exact, "cost") == pytest.approx(192)


@pytest.mark.parametrize(
    ("count", "clock", "said"),
    [
        ([1, 1, 1], [2, 2, 2], "later"),
        ([2, 2, 2], [1, 1, 1], "sooner"),
        ([1, 1, 2, 2], [2, 2, 1, 1], "apart"),
        ([1, 1, 2], [2, 2, 1], "apart"),
        ([1, np.nan], [2, 1], "later"),
        ([], [], "apart"),
    ],
)
def test_how_clock_and_count_differ(count, clock, said):
    assert clock_against_count(pd.Series(count, dtype=float), pd.Series(clock, dtype=float)) == said


# ----------------------------------------------------------------------------------------------------- the clock


@pytest.fixture
def fresh(monkeypatch):
    """Rows of nobody else."""
    monkeypatch.setattr(sweep, "_rows", SingleFlightCache(size=512))


class Clock:
    """A clock that moves only where something attends: `seconds(mechanism, n)` each time."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.runs = 0.0, []
        for name in ("perf_counter", "thread_time"):
            monkeypatch.setattr(timing, name, lambda: self.now)
        monkeypatch.setattr(timing, "_machine", lambda: {"label": "", "products": 1e9, "bandwidth": 1e9, "spent": 0.0})
        monkeypatch.setattr(timing, "_heads", lambda n, causal: unit(2).prefix(1) if n else None)
        clock = self

        class Timed:
            key, approximates, cubic = "exact", True, False

            def __init__(self, key, n=0):
                self.key, self.n = key, n

            def with_budget(self, keys, n):
                return Timed(self.key, n)

            def attend(self, sequence):
                clock.runs.append((self.key, self.n))
                clock.now += seconds(self.key, self.n)

        monkeypatch.setattr(timing, "showcased", lambda: {"Exact": Timed("exact"), "Fast": Timed("fast")})
        monkeypatch.setattr(timing, "counted", lambda shown, keys, n, shape: Counted(n**2 if shown.key == "exact" else 100 * n))


class Counted:
    def __init__(self, operations):
        self.cost = Cost(multiply_adds=operations, bytes_moved=1, bytes_peak=1)


def test_what_would_take_too_long_is_carried_on_and_marked(fresh, monkeypatch):
    clock = Clock(monkeypatch, lambda key, n: (n / 1024) ** 2 if key == "exact" else n / 1e5)
    table = CostTimes().run().tables["times"]
    exact = table[table["label"] == "Exact"].set_index("n")
    assert exact["dashed"].tolist() == [n > 512 for n in LENGTHS]
    assert exact.loc[65536, "estimate"] == pytest.approx(64.0**2)
    assert math.isnan(exact.loc[65536, "seconds"])
    assert not table.loc[table["label"] == "Fast", "dashed"][:-1].any()
    assert max(n for key, n in clock.runs if key == "exact") == 512
    assert exact.loc[512, "share"] == pytest.approx(512**2 / 1e9 / 0.25)


def test_all_runs_together_are_bounded(fresh, monkeypatch):
    clock = Clock(monkeypatch, lambda key, n: 0.45 * min(1.0, n / 64))
    monkeypatch.setattr(timing, "ALL_RUNS", 3.0)
    monkeypatch.setattr(timing, "counted", lambda *_: Counted(10))
    table = CostTimes().run().tables["times"]
    assert clock.now <= 3.0 + timing.RUNS * 0.45
    assert table["dashed"].any()
    assert table["estimate"].notna().all()


def test_a_slow_moment_does_not_end_a_curve(fresh, monkeypatch):
    Clock(monkeypatch, lambda key, n: 0.4 if n == 128 else n / 1e6)
    table = CostTimes().run().tables["times"]
    fast = table[table["label"] == "Fast"].set_index("n")
    assert not fast.loc[256, "dashed"]
    assert fast.loc[256, "seconds"] == pytest.approx(256e-6)


def test_short_runs_are_repeated_and_their_median_is_kept(fresh, monkeypatch):
    spent = iter([0.001, 0.02, *[0.003] * 500])
    clock = Clock(monkeypatch, lambda key, n: next(spent))
    CostTimes(longest=64).run()
    assert clock.runs.count(("exact", 64)) == timing.MOST_RUNS


def test_rows_are_shared_whatever_the_longest_length_is(fresh, monkeypatch):
    clock = Clock(monkeypatch, lambda key, n: 1e-6)
    CostTimes(longest=128).run()
    before = len(clock.runs)
    CostTimes(longest=128).run()
    assert len(clock.runs) == before
    CostTimes(longest=256).run()
    assert {n for _key, n in clock.runs[before:]} == {256}


def test_a_called_off_clock_keeps_its_points(fresh, monkeypatch):
    Clock(monkeypatch, lambda key, n: 1e-6)
    study = CostTimes()

    def stop(share, words):
        if "128" in words:
            raise jobs.Cancelled

    with pytest.raises(jobs.Cancelled):
        study.run(stop)
    known = study.known()
    assert set(known.tables["times"]["n"]) == {64}
    assert known.tables["machine"]["products"].tolist() == [1e9]


def test_the_real_clock_measures_every_mechanism_that_can_read_the_mask(fresh):
    result = CostTimes(keys=16, longest=64).run()
    table = result.tables["times"]
    assert {"Exact attention", "Window + sinks", "FAVOR+ positive"} <= set(table["label"])
    assert not {"SVD (oracle)", "Nyström", "ALiBi"} & set(table["label"])
    assert (table["seconds"] > 0).all()
    assert result.tables["machine"].attrs["units"]["bandwidth"] == "bytes per second"
    assert table.attrs["units"]["seconds"] == "s"
    assert CostTimes.from_json(CostTimes(keys=16, longest=64).to_json()) == CostTimes(keys=16, longest=64)


# ------------------------------------------------------------------------------------------------- sparse limits


@pytest.mark.parametrize("causal", [True, False])
def test_limits_are_those_of_sorted_rows(causal):
    study = SparseLimits(source=source(n=40, causal=causal))
    table = study.run().tables["limits"].set_index("keys")
    sequence = study.sequence()
    rows = (sequence.q[0] @ sequence.k[0].T / 4).double().masked_fill(~sequence.allowed(), -math.inf).softmax(-1)
    best, window, blind = [], [], []
    for i, row in enumerate(rows):
        visible = range(i + 1) if causal else range(40)
        near = sorted(visible, key=lambda j, i=i: (abs(i - j), j))[:4]
        best.append(float(row.sort(descending=True).values[:4].sum()))
        window.append(float(row[near].sum()))
        blind.append(min(1.0, 4 / len(visible)))
    assert table.loc[4].tolist() == pytest.approx([np.mean(best), np.mean(window), np.mean(blind)], rel=1e-5)
    assert table.loc[40].tolist() == pytest.approx([1, 1, 1])
    assert (table["best"] >= table["window"] - 1e-9).all()
    assert study.run().words["sample"] == "measured on all 40 queries"


def test_a_long_sequence_is_sampled_and_says_so(monkeypatch):
    monkeypatch.setattr(limits, "QUERIES", 8)
    result = SparseLimits(source=source(n=50)).run()
    assert "8 of 50 queries" in result.words["sample"]


# --------------------------------------------------------------------------------------------------------- pictures


def test_the_chart_is_sound_and_draws_every_crossing(run):
    what = "multiply_adds"
    table, at = run.tables["points"], run.tables["crossings"]
    chart = cost_chart(table, at[at["quantity"] == what], Theme(), what=what, n=96, ticks=LENGTHS[::2], y_title="operations")
    chart.to_dict()
    said = str(specification(chart, Theme())["layer"])
    assert "pays from here on" in said
    empty = cost_chart(table, at.iloc[:0], Theme(), what=what, n=96, ticks=LENGTHS[::2], y_title="operations")
    assert "pays from here on" not in str(specification(empty, Theme())["layer"])


def test_multiples_are_sorted_and_kept_on_the_axis():
    table = pd.DataFrame({"key": ["favor", "lsh", "window"], "label": ["a", "b", "c"], "multiple": [1e9, np.nan, 0.0321]})
    chart = multiples_chart(table, Theme())
    drawn = chart.to_dict()
    rows = next(rows for rows in drawn["datasets"].values() if "said" in rows[0])
    assert [(row["label"], row["said"]) for row in rows] == [("c", "0.03 ×"), ("a", "1,000,000,000 ×")]
    assert max(row["at"] for row in rows) == 1e3


def test_every_budget_is_counted_ahead_and_each_once(monkeypatch):
    asked = []
    monkeypatch.setattr(CostCurves, "run", lambda study: asked.append((study.keys, study.source)))
    cost_hero._preload_counts.__wrapped__(True)
    for thread in threading.enumerate():
        if thread.name == "count ahead":
            thread.join()
    assert asked == [(keys, timing.gaussian(True)) for keys in curves.BUDGETS]


def test_lengths_double():
    assert doublings(65536) == LENGTHS


def test_a_line_goes_on_without_a_gap():
    times = pd.DataFrame(
        {
            "label": ["a", "a", "a", "b"],
            "n": [64, 128, 256, 64],
            "estimate": [1.0, 2.0, 4.0, 1.0],
            "dashed": [False, False, True, False],
        }
    )
    added = without_gaps(times).iloc[len(times) :]
    assert added[["label", "n", "dashed"]].to_numpy().tolist() == [["a", 128, True]]


@pytest.mark.parametrize(
    ("value", "said"), [(999, "999"), (16_800_000, "16.8 million"), (2.75e11, "275 billion"), (3e12, "3 trillion")]
)
def test_large_counts_are_said_in_words(value, said):
    assert large(value) == said
