"""Every mechanism beside torch's exact attention and the library of its kind: one table, as Markdown and as JSON.

`python -m benchmarks` measures what settings.toml says; `--quick` in three minutes. Gates come first: ours is held
against the independent oracle, a peer against its definition with its named bug, both in the precision and with the threads
that are timed; a cell that fails prints no speed. A run that was stopped goes on where it was, if nothing has changed.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks import machine
from benchmarks.cells import Cell, prepared
from benchmarks.gates import FEATURES, TOLERANCE, Verdict, at_length, gate_ours, gate_peer
from benchmarks.journal import Journal, fingerprint
from benchmarks.machine import Machine
from benchmarks.memory import BEFORE, peak_of_a_call
from benchmarks.peer_oracles import ORACLES
from benchmarks.settings import PeerSetting, Plan, Row, plan
from benchmarks.table import Line, as_json, markdown
from benchmarks.timing import SLOW, Spent, Time, extrapolated, interleaved, too_long
from longattn_core.contracts.mechanism import Attended, Cost

BEGUN = perf_counter()
HERE = Path(__file__).parent
REACHED_AT = 16384
"""The length, with one thread, at which settings.toml says what must be reached."""

THIRD = 1 / 3
"""Of a peer's memory, which ours may not exceed where a ratio of times must be reached."""

PATIENCE = 4
"""A call that takes so many times as long as one that is timed may, is still made once, to see what it holds; if it takes twice
as long as was expected it is given up."""

PACKAGES = (
    "torch",
    "transformers",
    "performer-pytorch",
    "reformer-pytorch",
    "linformer",
    "nystrom-attention",
    "local-attention",
    "routing-transformer",
)


class Run:
    """One run of a plan: the gates' verdicts, the times by cell, threads and length, and the lines made of them."""

    def __init__(self, plan: Plan, *, whole: bool):
        self.plan = plan
        self.name = "RESULTS" if whole else "RESULTS-part"
        self.lines: list[Line] = []
        self.rates: dict[int, Machine] = {}
        self.verdicts: dict[tuple[str, int], Verdict] = {}
        versions = [(name, _version(name)) for name in PACKAGES]
        same = fingerprint(plan, versions, platform.machine(), platform.node(), os.cpu_count())
        self.journal = Journal(HERE / f"{self.name}.runs.jsonl", same)
        self._known: dict[tuple[str, int], dict[int, float]] = {}

    def over(self, share: float) -> bool:
        """Whether that share of the minutes that the plan gives is spent."""
        minutes = self.plan.minutes
        return minutes is not None and perf_counter() - BEGUN > 60 * minutes * share

    def gate(self, threads: int) -> None:
        """Hold every cell against its oracle."""
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for row in self.plan.rows:
                self._judge(Cell(row.causal, row), threads, gate_ours, row)
                for peer in row.peers:
                    self._judge(Cell(row.causal, row, peer), threads, gate_peer, row, peer)

    def _judge(self, cell: Cell, threads: int, gate: Any, *arguments: Any) -> None:
        at = (cell.name, threads)
        if at in self.verdicts:
            return
        if earlier := self.journal.found("gate", at):
            self.verdicts[at] = Verdict(**earlier[0])
            return
        verdict = gate(self.plan, *arguments)
        self.verdicts[at] = verdict
        self.journal.note("gate", at, asdict(verdict))
        print(f"gate  {cell.name}: {verdict.fault or f'within {verdict.distance:.1g} of the oracle'}", flush=True)

    def measure(self, n: int, threads: int) -> None:
        """Time every open cell at n in interleaved rounds, measure memory (with one thread), and add the lines."""
        torch.set_num_threads(threads)
        costs: dict[str, Cost] = {}
        faults: dict[str, str] = {}

        def look(name: str, result: object) -> None:
            if isinstance(result, Attended):
                look_at = {"cost": asdict(result.cost), "fault": at_length(result)}
                self.journal.note("looked", (name, n, threads), look_at)

        cells = {cell.name: cell for cell in self._cells()}
        run = [name for name, cell in cells.items() if self._runs(cell, n, threads)]
        calls = {name: (lambda cell=cells[name]: prepared(self.plan, cell, n)) for name in run}
        calls = {**machine.calls(), **calls}
        times = interleaved(
            calls,
            rounds=self.plan.rounds,
            over=lambda: self.over(0.7),
            look=look,
            earlier={name: self._spent(name, n, threads) for name in calls},
            note=lambda name, kind, found: self.journal.note(kind, (name, n, threads), found),
        )
        for name in run:
            if looked := self.journal.found("looked", (name, n, threads)):
                costs[name] = Cost(**looked[-1]["cost"])
                if looked[-1]["fault"] is not None:
                    faults[name] = looked[-1]["fault"]
        self.rates[threads] = Machine.of({name: times[name].seconds for name in (machine.PRODUCT, machine.COPY)})
        for name, time in times.items():
            if time.reason is None:
                self._known.setdefault((name, threads), {})[n] = time.seconds
        for name, cell in cells.items():
            if name not in times:
                times[name] = self._guessed(cell, n, threads)
        memory = self._memory(cells, self._weighed(cells, times, n), n) if threads == 1 and n > BEFORE else {}
        self.lines += self._lines(n, threads, times, memory, costs, faults)

    def _spent(self, name: str, n: int, threads: int) -> Spent:
        """What the journal holds of a cell."""
        first, after, failed = (self.journal.found(kind, (name, n, threads)) for kind in ("first", "after", "failed"))
        return Spent(first=first[0] if first else None, after=[*after], failed=failed[0] if failed else None)

    def _cells(self) -> Iterator[Cell]:
        for causal in sorted({row.causal for row in self.plan.rows}):
            yield Cell(causal)
        for row in self.plan.rows:
            yield Cell(row.causal, row)
            yield from (Cell(row.causal, row, peer) for peer in row.peers)

    def _runs(self, cell: Cell, n: int, threads: int) -> bool:
        if cell.row is not None and self.verdicts[cell.name, threads].fault is not None:
            return False
        if cell.peer is not None and (cell.peer.longest or n) < n:
            return False
        return not too_long(self._known.get((cell.name, threads), {}), n, self.plan.seconds_a_call)

    def _guessed(self, cell: Cell, n: int, threads: int) -> Time:
        seconds = extrapolated(self._known.get((cell.name, threads), {}), n)
        if seconds is None:
            return Time(reason="takes too long")
        return Time(seconds=seconds, extrapolated=True)

    def _weighed(self, cells: dict[str, Cell], times: dict[str, Time], n: int) -> list[str]:
        """The cells of rows whose memory is measured: those that have run, and those whose one call can be waited for."""
        return [
            name
            for name, cell in cells.items()
            if cell.row is not None
            and (cell.peer is None or (cell.peer.longest or n) >= n)
            and times[name].reason is None
            and times[name].seconds < PATIENCE * self.plan.seconds_a_call
        ]

    def _memory(self, cells: dict[str, Cell], run: list[str], n: int) -> dict[str, float | str]:
        """Megabytes above inputs and output of each named cell, or why there are none."""
        output = 4 * self.plan.heads * n * self.plan.width / 2**20
        found: dict[str, float | str] = {}
        for name in run:
            cell = cells[name]
            if self.over(0.95):
                found[name] = "no time was left"
                continue
            if cell.peer is not None and cell.peer.compiled:
                found[name] = "not told from the compiler's"
                continue
            if not (earlier := self.journal.found("memory", (name, n))):
                held = peak_of_a_call(prepared, (self.plan, cell), n, 2 * PATIENCE * self.plan.seconds_a_call)
                self.journal.note("memory", (name, n), held if isinstance(held, str) else max(0.0, held - output))
                earlier = self.journal.found("memory", (name, n))
            found[name] = earlier[0]
        return found

    def _lines(
        self,
        n: int,
        threads: int,
        times: dict[str, Time],
        memory: dict[str, float | str],
        costs: dict[str, Cost],
        faults: dict[str, str],
    ) -> Iterator[Line]:
        judged = n == REACHED_AT and threads == 1
        rates = self.rates[threads]
        for row in self.plan.rows:
            mine = Cell(row.causal, row)
            ours, cost = times[mine.name], costs.get(mine.name)
            line = Line(
                n=n,
                threads=threads,
                mechanism=row.name,
                ours=ours,
                exact=times[Cell(row.causal).name],
                limit=None if cost is None else rates.seconds(cost) / ours.seconds,
                multiply_rate=None if cost is None else cost.multiply_adds / rates.multiply_adds / ours.seconds,
                megabytes=memory.get(mine.name),
                least=dict(row.least) if judged else {},
                fault=self.verdicts[mine.name, threads].fault or faults.get(mine.name),
            )
            if not row.peers:
                yield line
            for number, peer in enumerate(row.peers):
                yield self._beside(line, row, peer, times, memory, judged=judged, first=number == 0)

    def _beside(
        self,
        line: Line,
        row: Row,
        peer: PeerSetting,
        times: dict[str, Time],
        memory: dict[str, float | str],
        *,
        judged: bool,
        first: bool,
    ) -> Line:
        name = Cell(row.causal, row, peer).name
        least = dict(line.least) if first else {}
        if judged and peer.least is not None:
            least["peer"] = peer.least
            if not peer.compiled:
                least["memory"] = THIRD
        return replace(
            line,
            peer=peer.name,
            peer_time=times[name],
            peer_megabytes=memory.get(name),
            least=least,
            peer_fault=self.verdicts[name, line.threads].fault,
        )

    def written(self) -> str:
        """Write RESULTS.md and RESULTS.json beside this file (RESULTS-part, if not all was asked for), and give the Markdown."""
        plan = self.plan
        versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
        heading = (
            f"# Benchmark\n\n{plan.heads} heads, d = {plan.width}, float32, unit Gaussian inputs, {platform.machine()}, "
            f"{os.cpu_count()} cores. {versions}."
        )
        text = markdown(self.lines, heading, [*self._notes()])
        facts = {
            "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
            "versions": {name: _version(name) for name in PACKAGES},
            "heads": plan.heads,
            "width": plan.width,
            "rounds": plan.rounds,
            "rates": {threads: vars(rates) for threads, rates in self.rates.items()},
            "gates": [{"cell": name, "threads": threads, **vars(verdict)} for (name, threads), verdict in self.verdicts.items()],
        }
        (HERE / f"{self.name}.md").write_text(text, encoding="utf-8")
        (HERE / f"{self.name}.json").write_text(as_json(self.lines, facts), encoding="utf-8")
        return text

    def _notes(self) -> Iterator[str]:
        yield (
            "~: extrapolated from the two longest lengths that were measured, because a call was expected to take more than "
            f"{self.plan.seconds_a_call:g} s."
        )
        yield (
            f"Times are medians of {self.plan.rounds} interleaved rounds after one that warms up; a call of more than "
            f"{SLOW:g} s counts from the first on, and is repeated once at most. Memory is the peak of a process of its own "
            "above inputs and output, with one thread."
        )
        yield (
            "Before it is timed each cell is held, in float32 and with the threads that are timed, against its definition in "
            f"float64: every row within {TOLERANCE:g} of its length (features: {FEATURES:g}), which is what float32 rounds."
        )
        for threads, rates in self.rates.items():
            if math.isnan(rates.multiply_adds + rates.bytes):
                continue
            yield (
                f"{threads} thread(s): {rates.multiply_adds / 1e9:.1f} billion multiply-adds and {rates.bytes / 1e9:.1f} GB a "
                "second. The share of the limit is the time that the counted multiply-adds or bytes would take at these "
                "rates, the longer of the two, over the time that was measured."
            )
        bugs = {
            peer.name: (oracle.bug, self._moved(Cell(row.causal, row, peer)))
            for row in self.plan.rows
            for peer in row.peers
            if (oracle := ORACLES[peer.name]).bug is not None
        }
        for name, (bug, moves) in bugs.items():
            size = "" if moves is None else f" (moves an output by up to {moves:.2g})"
            yield f"{name} is held against its definition with its own bug: {bug}{size}."

    def _moved(self, cell: Cell) -> float | None:
        return next((found.bug_moves for (name, _), found in self.verdicts.items() if name == cell.name), None)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Run the gates, time, measure memory, write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one length and one thread, in three minutes")
    parser.add_argument("--only", help="only the rows whose name holds this")
    parser.add_argument("--lengths", type=int, nargs="+", help="instead of those of settings.toml")
    parser.add_argument("--threads", type=int, nargs="+", help="instead of those of settings.toml")
    parser.add_argument("--rounds", type=int, help="instead of those of settings.toml")
    given = parser.parse_args()
    chosen = plan(quick=given.quick, only=given.only)
    chosen = replace(
        chosen,
        lengths=tuple(given.lengths or chosen.lengths),
        threads=tuple(given.threads or chosen.threads),
        rounds=given.rounds or chosen.rounds,
    )
    run = Run(chosen, whole=chosen == plan(quick=False))
    if run.journal.goes_on:
        print(f"goes on where the last run stopped ({run.journal.path.name})", flush=True)
    for threads in chosen.threads:
        run.gate(threads)
        for n in sorted(chosen.lengths):
            print(f"n = {n:,}, {threads} thread(s)", flush=True)
            run.measure(n, threads)
            text = run.written()
    run.journal.close()
    print(text)


if __name__ == "__main__":
    main()
