"""The benchmark's own rules: what is extrapolated, what prints no speed, and what stands in its settings. No peer is needed."""

import json
import math
import os
import signal
import tomllib
from dataclasses import replace

import pytest
import torch

import benchmarks.run as benchmark
from benchmarks import gates, timing
from benchmarks.cells import Cell, prepared
from benchmarks.gates import Verdict, at_length, gate_ours, gate_peer
from benchmarks.journal import Journal, fingerprint
from benchmarks.machine import Machine
from benchmarks.memory import peak_of_a_call
from benchmarks.peer_oracles import ORACLES
from benchmarks.peers import PEERS, Peer
from benchmarks.settings import FILE, PeerSetting, Row, filled, plan
from benchmarks.table import COLUMNS, Line, as_json, markdown
from benchmarks.timing import SLOW, Spent, Time, extrapolated, interleaved, too_long
from longattn_core import MECHANISMS
from longattn_core.contracts.mechanism import Cost
from longattn_core.mechanisms.favor import fast
from longattn_core.mechanisms.favor import mechanism as favor
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.window import Window
from longattn_core.mechanisms.window import fast as window_fast
from longattn_core.numerics.band_attention import attend_band
from longattn_core.numerics.block_attention import flash_blocks

FULL = plan(quick=False)
ROW = Row(name="a window", mechanism="window", dials={"width": 8}, causal=True, least={})


# --------------------------------------------------------------------------------------------------------- settings


def test_every_mechanism_has_a_row_that_can_be_built_at_every_length():
    assert {row.mechanism for row in FULL.rows} == set(MECHANISMS)
    for row in FULL.rows:
        for n in FULL.lengths:
            setting = row.ours(n)
            assert setting.key == row.mechanism
            assert setting.refuses(FULL.sequence(16, causal=row.causal, heads=1)) is None, row.name


def test_every_peer_is_named_and_has_an_oracle():
    named = {peer.name for row in FULL.rows for peer in row.peers}
    assert named == set(PEERS) == set(ORACLES)
    assert len({row.name for row in FULL.rows}) == len(FULL.rows)


def test_the_lengths_and_threads_that_are_promised():
    assert FULL.lengths[0] == 512 and FULL.lengths[-1] == 65536 and 16384 in FULL.lengths
    assert FULL.threads == (1, 2) and (FULL.heads, FULL.width) == (8, 64)
    quick = plan(quick=True)
    assert quick.minutes is not None and quick.minutes < 3 and len(quick.lengths) == len(quick.threads) == 1
    assert FULL.minutes is None
    assert {row.mechanism for row in quick.rows} == set(MECHANISMS)
    asked = tomllib.loads(FILE.read_text(encoding="utf-8"))["quick"]["rows"]
    assert {row.name for row in quick.rows} == set(asked) < {row.name for row in FULL.rows}


def test_a_share_of_the_length_is_worked_out():
    assert filled({"a": "n/64", "b": 3, "c": "mean"}, 512) == {"a": 8, "b": 3, "c": "mean"}
    assert filled({"a": "n/64"}, 5) == {"a": 1}


def test_a_name_that_no_row_holds_is_said():
    assert [row.name for row in plan(quick=False, only="nyström").rows] == ["Nyström"]
    with pytest.raises(ValueError, match=r"No row's name holds 'zzz'"):
        plan(quick=False, only="zzz")


def test_all_cells_of_one_length_read_the_same_heads():
    one, other = FULL.sequence(64, causal=True), FULL.sequence(64, causal=False)
    assert torch.equal(one.k, other.k) and one.q.dtype == torch.float32 and one.q.shape == (8, 64, 64)
    assert not torch.equal(one.q, one.k)


# ------------------------------------------------------------------------------------------------------------ times


def test_exact_attention_is_extrapolated_by_the_power_of_its_last_two_lengths():
    assert extrapolated({1024: 0.9, 4096: 2.0, 16384: 32.0}, 65536) == pytest.approx(512.0)
    assert extrapolated({4096: 2.0, 1024: 1.0}, 16384) == pytest.approx(4.0)
    assert extrapolated({1024: 1.0}, 4096) is None
    # Nothing grows faster than the square, or becomes quicker as it grows: noise may say so.
    assert extrapolated({1024: 1.0, 2048: 100.0}, 4096) == pytest.approx(400.0)
    assert extrapolated({1024: 1.0, 2048: 0.5}, 4096) == pytest.approx(0.5)


def test_what_is_expected_to_take_too_long_is_not_run():
    assert not too_long({}, 65536, 1.0)
    assert too_long({4096: 1.0, 16384: 16.0}, 65536, 100.0) and not too_long({4096: 1.0, 16384: 16.0}, 65536, 300.0)
    assert too_long({16384: 3.0}, 65536, 10.0) and not too_long({16384: 2.0}, 65536, 10.0)


def test_every_round_runs_every_cell_once_and_the_warm_up_is_checked():
    order, looked = [], []

    def cell(name):
        return lambda: lambda: order.append(name)

    times = interleaved(
        {"a": cell("a"), "b": cell("b")}, rounds=2, over=lambda: False, check=lambda name, result: looked.append(name)
    )
    assert order == ["a", "b"] * 3 and looked == ["a", "b"]
    assert all(time.reason is None and time.seconds >= 0 for time in times.values())


def test_a_cell_that_fails_says_so_and_the_others_are_timed():
    def broken():
        raise TypeError("no such kernel")

    times = interleaved({"broken": lambda: broken, "sound": lambda: lambda: None}, rounds=1, over=lambda: False)
    assert times["broken"].reason == "does not run: TypeError: no such kernel" and math.isnan(times["broken"].seconds)
    assert times["sound"].reason is None


def test_when_the_time_is_over_nothing_is_begun():
    begun = []
    times = interleaved({"a": lambda: lambda: begun.append(1)}, rounds=3, over=lambda: True)
    assert begun == [] and times["a"].reason == "no time was left" and math.isnan(times["a"].seconds)


def test_the_limit_is_the_slower_of_multiplying_and_moving():
    rates = Machine(multiply_adds=100.0, bytes=10.0)
    assert rates.seconds(Cost(multiply_adds=200, bytes_moved=10, bytes_peak=1)) == pytest.approx(2.0)
    assert rates.seconds(Cost(multiply_adds=200, bytes_moved=50, bytes_peak=1)) == pytest.approx(5.0)


def _holding(megabytes, n):
    return lambda: torch.ones(megabytes << 18)


def test_memory_is_that_of_the_call_alone():
    held = [peak_of_a_call(_holding, (megabytes,), 1024, 120.0) for megabytes in (16, 200)]
    assert all(isinstance(found, float) for found in held), held
    # The first call holds as much, so that what it leaves behind may be used again.
    assert held[0] < 40 and held[1] < 240


def _killed(n):
    return lambda: os.kill(os.getpid(), signal.SIGKILL) if n == 1024 else None


def test_a_process_that_the_system_ended_ran_out_of_memory():
    assert peak_of_a_call(_killed, (), 1024, 120.0) == "out of memory: the system ended the process"


def test_memory_is_measured_of_what_is_too_slow_to_be_timed(tmp_path, monkeypatch):
    """A call of 30 to 120 seconds has an extrapolated time and a memory of its own; beyond, and past its `longest`, neither."""
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    peers = tuple(PeerSetting(name="local_attention", arguments={"window": x}, longest=y) for x, y in ((1, None), (2, 512)))
    run = benchmark.Run(replace(FULL, rows=(replace(ROW, peers=peers),)), whole=False)
    cells = {cell.name: cell for cell in run._cells()}
    exact, ours, slow, short = cells
    times = {
        exact: Time(seconds=1.0),
        ours: Time(seconds=40.0, extrapolated=True),
        slow: Time(seconds=119.0, extrapolated=True),
        short: Time(seconds=40.0, extrapolated=True),
    }
    assert run._weighed(cells, times, 1024) == [ours, slow]
    assert run._weighed(cells, {**times, slow: Time(seconds=121.0, extrapolated=True)}, 1024) == [ours]
    assert run._weighed(cells, {**times, slow: Time(reason="does not run")}, 1024) == [ours]
    run.journal.close()


# ---------------------------------------------------------------------------------------------- a run that was stopped


def test_what_was_timed_before_a_stop_is_not_timed_again(monkeypatch):
    order, noted, clock = [], [], [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: clock[0])

    def cell(name):
        def call():
            order.append(name)
            clock[0] += SLOW if name == "slow" else 0.0

        return lambda: call

    earlier = {
        "whole": Spent(first=1.0, after=[2.0, 2.0]),
        "begun": Spent(first=1.0, after=[2.0]),
        "slow": Spent(first=SLOW + 1, after=[]),
        "failed": Spent(failed="does not run"),
    }
    times = interleaved(
        {name: cell(name) for name in (*earlier, "new")},
        rounds=2,
        over=lambda: False,
        earlier=earlier,
        note=lambda name, kind, found: noted.append((name, kind)),
    )
    # A call that was begun warms up again; the first of a slow one has counted.
    assert sorted(order) == ["begun"] * 2 + ["new"] * 3 + ["slow"]
    assert sorted(noted) == [("begun", "after"), ("new", "after"), ("new", "after"), ("new", "first"), ("slow", "after")]
    assert times["whole"].seconds == 2.0 and times["failed"].reason == "does not run"
    assert times["slow"].seconds == SLOW + 0.5 and times["new"].seconds == 0


def test_a_first_call_that_compiled_does_not_count(monkeypatch):
    clock, ran = [0.0], []
    monkeypatch.setattr(timing, "perf_counter", lambda: clock[0])

    def call():
        ran.append(1)
        clock[0] += 2 * SLOW if len(ran) == 1 else 0.25

    times = interleaved({"compiled": lambda: call}, rounds=3, over=lambda: False)
    assert times["compiled"].seconds == 0.25
    assert len(ran) == 4, "one to compile, and each round"


def test_a_journal_gives_back_what_it_was_told_but_for_a_torn_line(tmp_path):
    path = tmp_path / "runs.jsonl"
    one = Journal(path, "same")
    assert not one.goes_on and one.found("first", ("a", 1)) == []
    one.note("first", ("a", 1), 0.5)
    one.note("after", ("a", 1), 0.25)
    with path.open("a") as file:
        file.write('{"kind": "after", "at": ["a", 1], "fi')
    other = Journal(path, "same")
    assert other.goes_on and other.found("first", ("a", 1)) == [0.5] and other.found("after", ("a", 1)) == [0.25]
    other.note("after", ("a", 1), 0.125)
    assert Journal(path, "same").found("after", ("a", 1)) == [0.25, 0.125]
    anew = Journal(path, "another")
    assert not anew.goes_on
    anew.note("first", ("a", 1), 7.0)
    assert Journal(path, "another").found("first", ("a", 1)) == [7.0] and not Journal(path, "same").goes_on
    anew.close()
    assert not path.exists()


def test_a_change_of_the_code_or_the_settings_is_another_run(tmp_path):
    code = tmp_path / "longattn_core" / "deep" / "a.py"
    code.parent.mkdir(parents=True)
    code.write_text("x = 1\n")
    first = fingerprint("settings", 1, root=tmp_path)
    assert first == fingerprint("settings", 1, root=tmp_path) != fingerprint("settings", 2, root=tmp_path)
    code.write_text("x = 2\n")
    assert fingerprint("settings", 1, root=tmp_path) != first


def test_a_run_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    monkeypatch.setattr(benchmark.machine, "calls", dict)
    monkeypatch.setattr(benchmark.Machine, "of", classmethod(lambda cls, seconds: cls(multiply_adds=1.0, bytes=1.0)))
    calls, at_work, right = [], [], Window._attend

    def counted(self, sequence):
        calls.append(sequence.n)
        at_work.append(torch.get_num_threads())
        if len(calls) == 4:
            raise KeyboardInterrupt
        return right(self, sequence)

    monkeypatch.setattr(Window, "_attend", counted)
    small = replace(plan(quick=True), heads=2, width=16, rounds=2, minutes=None, gate_length=24, rows=(ROW,))
    monkeypatch.setattr(benchmark.machine, "PRODUCT", "torch's exact attention, causal")
    monkeypatch.setattr(benchmark.machine, "COPY", "a window")

    def run():
        one = benchmark.Run(small, whole=False)
        one.gate(1)
        one.measure(32, 1)
        return one

    with pytest.raises(KeyboardInterrupt):
        run()
    assert calls == [24, 32, 32, 32] and set(at_work) == {1}
    done = run()
    # The gate and the first round are known; the call warms up once more, and its last round follows.
    assert calls[4:] == [32, 32]
    assert run().lines[0].ours == done.lines[0].ours and len(calls) == 6
    assert done.lines[0].ours.seconds > 0 and done.lines[0].limit is not None
    done.journal.close()
    run()
    assert calls[6:] == [24, 32, 32, 32]


# ------------------------------------------------------------------------------------------------------------ gates


def test_our_gate_opens_for_a_right_output_and_not_for_a_wrong_one(monkeypatch):
    quick = plan(quick=True)
    with torch.inference_mode():
        assert gate_ours(quick, ROW).fault is None
        right = Window._attend

        def wrong(self, sequence):
            attended = right(self, sequence)
            attended.output[0, 3, 0] += 1e-3 * attended.output[0, 3].norm()
            return attended

        monkeypatch.setattr(Window, "_attend", wrong)
        verdict = gate_ours(quick, ROW)
    assert verdict.fault == "red: a row differs from the oracle's by 0.001 of its length"


def test_our_gate_reads_the_precision_that_is_timed(monkeypatch):
    right, read = Window._attend, []

    def wrong(self, sequence):
        read.append(sequence.q.dtype)
        attended = right(self, sequence)
        if sequence.q.dtype == torch.float32:
            attended.output.mul_(1.01)
        return attended

    monkeypatch.setattr(Window, "_attend", wrong)
    with torch.inference_mode():
        verdict = gate_ours(plan(quick=True), ROW)
    assert verdict.fault is not None and set(read) == {torch.float32}


def _row(name):
    return next(row for row in FULL.rows if row.name == name)


@pytest.mark.parametrize("name", ["Sliding window", "Sliding window, causal"])
def test_a_fault_in_the_windows_kernel_is_seen(name, monkeypatch):
    """The inner blocks, which all share one mask, are there at the gate's length, and the gate goes red by them alone,
    whether torch's kernel makes them or products of small matrices do."""
    row, read = _row(name), []

    def wrong(q, k, v, bias):
        output, lse = flash_blocks(q, k, v, bias)
        read.append(q.shape[1])
        return (output * (1 + 1e-4) if q.shape[1] > 1 else output), lse

    def wrong_band(*given, rows, output, **others):
        attend_band(*given, rows=rows, output=output, **others)
        read.append(len(rows))
        output[:, rows.start : rows.stop] *= 1 + 1e-4

    with torch.inference_mode():
        assert gate_ours(FULL, row).fault is None
        monkeypatch.setattr(window_fast, "flash_blocks", wrong)
        monkeypatch.setattr(window_fast, "attend_band", wrong_band)
        fault = gate_ours(FULL, row).fault
    assert max(read) > 1 and fault is not None and fault.startswith("red")


@pytest.mark.parametrize("name", ["FAVOR+", "FAVOR+, causal"])
def test_a_fault_in_the_fast_features_is_seen(name, monkeypatch):
    """Planted in the tokens behind the first tile, or the first chunk, of the way that only single precision takes."""
    row, begins = _row(name), fast.CHUNK if name.endswith("causal") else fast.ROWS
    gather = f"gather_{'past' if row.causal else 'all'}"
    right = getattr(fast, gather)

    def wrong(*given):
        found = right(*given)
        found.output[:, begins:] *= 1 + 1e-4
        return found

    monkeypatch.setattr(favor, gather, wrong)
    with torch.inference_mode():
        fault = gate_ours(FULL, row).fault
    assert fault is not None and fault.startswith("red")


def test_a_tie_that_fell_the_other_way_is_asked_again_and_a_fault_stays_red(monkeypatch):
    row = replace(_row("Clusters"), gate_length=64)
    right, read = Routed._attend, []

    def wrong(self, sequence):
        attended = right(self, sequence)
        read.append(sequence)
        if len(read) in spoilt:
            attended.output.mul_(1.01)
        return attended

    monkeypatch.setattr(Routed, "_attend", wrong)
    with torch.inference_mode():
        spoilt = {1}
        assert gate_ours(FULL, row).fault is None and len(read) == 2
        assert not torch.equal(read[0].q, read[1].q)
        spoilt = range(100)
        assert gate_ours(FULL, row).fault is not None and len(read) == 2 + gates.DRAWS


def test_at_the_length_that_is_timed_rows_times_values_are_asked_for():
    with torch.inference_mode():
        attended = ROW.ours(600).attend(FULL.sequence(600, causal=True))
        assert at_length(attended) is None
        attended.output[0, 599] += 0.1
        fault = at_length(attended)
    assert fault is not None and "n = 600" in fault


def test_a_peers_gate_compares_with_its_definition(monkeypatch):
    """A stand-in for a peer: right, wrong, not installed, broken."""
    sliding = PeerSetting(name="local_attention", arguments={"window": 16})

    def given(change):
        def build(sequence, *, window):
            fine = sequence.to(dtype=torch.float64)
            right = ORACLES["local_attention"].compute(fine, {}, {"window": window}, True)
            return Peer(attend=lambda: change(right), output=lambda x: x)

        return {"local_attention": build}

    def missing(right):
        raise ModuleNotFoundError("No module named 'local_attention'")

    def broken(right):
        raise RuntimeError("shapes\nand more")

    faults = []
    for change in (lambda x: x, lambda x: x * 1.001, lambda x: x * math.nan, missing, broken):
        monkeypatch.setattr(gates, "PEERS", given(change))
        faults.append(gate_peer(FULL, ROW, sliding).fault)
    assert faults == [
        None,
        "red: a row differs from the oracle's by 0.001 of its length",
        "red: a row differs from the oracle's by nan of its length",
        "not installed: No module named 'local_attention'",
        "does not run: RuntimeError: shapes",
    ]


def test_a_peers_oracle_differs_by_its_bug():
    """Where a bug is named the definition with it is another one than that without it."""
    sequence = FULL.sequence(64, causal=False, heads=2).to(dtype=torch.float64)
    source = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(shape, generator=source, dtype=torch.float64)

    given = {
        "performer_pytorch": ({"projection": drawn(32, 64)}, {"features": 32}),
        "reformer_pytorch": ({"rotations": drawn(2, 64, 2, 2)}, {"bucket": 16, "rounds": 2}),
        "hf_reformer": ({"rotations": drawn(2, 64, 2, 2)}, {"bucket": 16, "rounds": 2}),
        "nystrom_attention": ({}, {"landmarks": 16}),
        "hf_nystromformer": ({}, {"landmarks": 16}),
        "routing_transformer": ({"means": drawn(2, 4, 64)}, {"clusters": 4, "window": 16}),
        "hf_bigbird": ({}, {"block": 8, "random_blocks": 3}),
    }
    assert set(given) == {name for name, oracle in ORACLES.items() if oracle.bug is not None}
    for name, (draw, arguments) in given.items():
        with_it, without = (ORACLES[name].compute(sequence, draw, arguments, bug) for bug in (True, False))
        assert with_it.shape == sequence.v.shape and bool(torch.isfinite(with_it).all())
        assert float((with_it - without).abs().max()) > 1e-3, name


# ------------------------------------------------------------------------------------------------------------ table


def line(**changes):
    given = {
        "n": 16384,
        "threads": 1,
        "mechanism": "FAVOR+",
        "ours": Time(seconds=0.5),
        "exact": Time(seconds=10.0),
        "limit": 0.4,
        "multiply_rate": 0.4,
        "megabytes": 12.0,
        "peer": "performer_pytorch",
        "peer_time": Time(seconds=2.0),
        "peer_megabytes": 120.0,
        "least": {"exact": 20, "peer": 5, "memory": 1 / 3},
    }
    return Line(**{**given, **changes})


def cells_of(*lines):
    text = markdown(lines, "# Benchmark", ["a note"])
    rows = [row for row in text.splitlines() if row.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_has_its_columns_and_ratios():
    head, rule, row = cells_of(line())
    assert tuple(head) == COLUMNS and len(rule) == len(row) == len(COLUMNS)
    assert row == [
        "16,384",
        "1",
        "FAVOR+",
        "500.0",
        "20.00",
        "40%",
        "12",
        "performer_pytorch",
        "2,000.0",
        "4.00",
        "120",
        "exact/ours ≥ 20 ✓; **peer/ours ≥ 5: 4**; MB/peer's ≤ 0.33 ✓",
    ]


def test_a_red_cell_prints_no_speed():
    verdict = Verdict(fault="red: differs from the oracle by 0.1")
    *_, row = cells_of(line(fault=verdict.fault))
    assert row[COLUMNS.index("ms")] == verdict.fault
    for column in ("exact / ours", "share of the limit", "MB", "peer / ours"):
        assert row[COLUMNS.index(column)] == "–", column
    assert "500" not in " ".join(row)
    *_, row = cells_of(line(peer_fault=verdict.fault))
    assert row[COLUMNS.index("peer ms")] == verdict.fault and row[COLUMNS.index("ms")] == "500.0"
    assert row[COLUMNS.index("peer / ours")] == row[COLUMNS.index("peer MB")] == "–"


def test_what_was_extrapolated_is_marked():
    *_, row = cells_of(line(exact=Time(seconds=10.0, extrapolated=True)))
    assert row[COLUMNS.index("exact / ours")] == "~20.00" and row[COLUMNS.index("peer / ours")] == "4.00"


def test_a_line_without_a_peer_has_no_peers_numbers():
    *_, row = cells_of(line(peer=None, peer_time=None, peer_megabytes=None, least={}))
    assert row[-5:] == ["–", "–", "–", "–", "–"]


def test_the_json_holds_the_same_lines_without_numbers_that_are_none():
    content = json.loads(as_json([line(), line(fault="red")], {"heads": 8}))
    good, red = content["lines"]
    assert content["heads"] == 8 and good["exact_over_ours"] == 20.0 and good["peer_over_ours"] == 4.0
    assert good["memory_over_peer"] == pytest.approx(0.1)
    assert good["reached"]["peer"] == {"found": 4.0, "asked": 5, "reached": False} and good["reached"]["exact"]["reached"]
    assert red["ours"]["seconds"] is None and red["exact_over_ours"] is None and red["fault"] == "red"


def test_a_cell_is_prepared_with_its_own_inputs():
    exact, ours = Cell(True), Cell(True, ROW)
    quick = plan(quick=True)
    with torch.inference_mode():
        assert prepared(quick, exact, 32)().shape == (1, 8, 32, 64)
        assert prepared(quick, ours, 32)().output.shape == (8, 32, 64)
    assert exact.name != Cell(False).name and ours.name == "a window"
