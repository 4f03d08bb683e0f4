"""One run of a plan: gates first, then times and memory, cell by cell; a run that was stopped continues from its journal."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks import machine
from benchmarks.cells import Cell, prepared
from benchmarks.gates import Verdict, at_length, gate_ours, gate_peer
from benchmarks.journal import Journal, fingerprint
from benchmarks.machine import Machine
from benchmarks.memory import BEFORE, peak_of_a_call
from benchmarks.report import versions, write
from benchmarks.settings import PeerSetting, Plan, Row
from benchmarks.table import Line
from benchmarks.timing import Spent, Time, extrapolated, interleaved, too_long
from longattn_core.contracts.mechanism import Attended, Cost

BEGUN = perf_counter()
HERE = Path(__file__).parent
REACHED_AT = 16384
"""The length, with one thread, for which settings.toml states what must be reached."""

THIRD = 1 / 3
"""The largest share of a peer's memory that ours may take where a ratio of times must be reached."""

PATIENCE = 4
"""A call that takes up to this many times the limit of a timed call is still made once, to measure its memory. If it takes twice
as long as that, it is stopped."""


class Run:
    """The state of one run: the gates' verdicts, the times by cell, threads and length, and the lines of the table."""

    def __init__(self, plan: Plan, *, whole: bool):
        self.plan = plan
        self.name = "RESULTS" if whole else "RESULTS-part"
        self.lines: list[Line] = []
        self.rates: dict[int, Machine] = {}
        self.verdicts: dict[tuple[str, int], Verdict] = {}
        same = fingerprint(plan, [*versions().items()], platform.machine(), platform.node(), os.cpu_count())
        self.journal = Journal(HERE / f"{self.name}.runs.jsonl", same)
        self._known: dict[tuple[str, int], dict[int, float]] = {}

    def over(self, share: float) -> bool:
        """Whether this share of the plan's minutes is spent."""
        minutes = self.plan.minutes
        return minutes is not None and perf_counter() - BEGUN > 60 * minutes * share

    def gate(self, threads: int) -> None:
        """Compare every cell with its oracle."""
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
        """Time every cell that passed its gate at n in interleaved rounds, measure memory (one thread), and add the lines."""
        torch.set_num_threads(threads)
        costs: dict[str, Cost] = {}
        faults: dict[str, str] = {}

        def check(name: str, result: object) -> None:
            if isinstance(result, Attended):
                self.journal.note("checked", (name, n, threads), {"cost": asdict(result.cost), "fault": at_length(result)})

        cells = {cell.name: cell for cell in self._cells()}
        timed = [name for name, cell in cells.items() if self._is_timed(cell, n, threads)]
        calls = {name: (lambda cell=cells[name]: prepared(self.plan, cell, n)) for name in timed}
        calls = {**machine.calls(), **calls}
        times = interleaved(
            calls,
            rounds=self.plan.rounds,
            over=lambda: self.over(0.7),
            check=check,
            earlier={name: self._spent(name, n, threads) for name in calls},
            note=lambda name, kind, finding: self.journal.note(kind, (name, n, threads), finding),
        )
        for name in timed:
            if checked := self.journal.found("checked", (name, n, threads)):
                costs[name] = Cost(**checked[-1]["cost"])
                if checked[-1]["fault"] is not None:
                    faults[name] = checked[-1]["fault"]
        self.rates[threads] = Machine.of({name: times[name].seconds for name in (machine.PRODUCT, machine.COPY)})
        for name, time in times.items():
            if time.reason is None:
                self._known.setdefault((name, threads), {})[n] = time.seconds
        for name, cell in cells.items():
            if name not in times:
                times[name] = self._expected(cell, n, threads)
        memory = self._memory(cells, self._weighed(cells, times, n), n) if threads == 1 and n > BEFORE else {}
        self.lines += self._lines(n, threads, times, memory, costs, faults)

    def _spent(self, name: str, n: int, threads: int) -> Spent:
        """What the journal holds about a cell."""
        first, after, failed = (self.journal.found(kind, (name, n, threads)) for kind in ("first", "after", "failed"))
        return Spent(first=first[0] if first else None, after=[*after], failed=failed[0] if failed else None)

    def _cells(self) -> Iterator[Cell]:
        for causal in sorted({row.causal for row in self.plan.rows}):
            yield Cell(causal)
        for row in self.plan.rows:
            yield Cell(row.causal, row)
            yield from (Cell(row.causal, row, peer) for peer in row.peers)

    def _is_timed(self, cell: Cell, n: int, threads: int) -> bool:
        if cell.row is not None and self.verdicts[cell.name, threads].fault is not None:
            return False
        if cell.peer is not None and (cell.peer.longest or n) < n:
            return False
        return not too_long(self._known.get((cell.name, threads), {}), n, self.plan.seconds_a_call)

    def _expected(self, cell: Cell, n: int, threads: int) -> Time:
        """The extrapolated time of a cell that is not timed."""
        seconds = extrapolated(self._known.get((cell.name, threads), {}), n)
        if seconds is None:
            return Time(reason="takes too long")
        return Time(seconds=seconds, extrapolated=True)

    def _weighed(self, cells: dict[str, Cell], times: dict[str, Time], n: int) -> list[str]:
        """The cells of rows whose memory is measured: those that were timed, and those whose single call is short enough."""
        return [
            name
            for name, cell in cells.items()
            if cell.row is not None
            and (cell.peer is None or (cell.peer.longest or n) >= n)
            and times[name].reason is None
            and times[name].seconds < PATIENCE * self.plan.seconds_a_call
        ]

    def _memory(self, cells: dict[str, Cell], names: list[str], n: int) -> dict[str, float | str]:
        """Megabytes besides inputs and output of each named cell, or why there are none."""
        output = 4 * self.plan.heads * n * self.plan.width / 2**20
        megabytes: dict[str, float | str] = {}
        for name in names:
            cell = cells[name]
            if self.over(0.95):
                megabytes[name] = "no time was left"
                continue
            if cell.peer is not None and cell.peer.compiled:
                megabytes[name] = "not told from the compiler's"
                continue
            if not (earlier := self.journal.found("memory", (name, n))):
                held = peak_of_a_call(prepared, (self.plan, cell), n, 2 * PATIENCE * self.plan.seconds_a_call)
                self.journal.note("memory", (name, n), held if isinstance(held, str) else max(0.0, held - output))
                earlier = self.journal.found("memory", (name, n))
            megabytes[name] = earlier[0]
        return megabytes

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
        """The line of our setting with one of its peers; only the first peer's line states what ours must reach."""
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
        """Write RESULTS.md and RESULTS.json (RESULTS-part for a part of the plan) beside this file; returns the Markdown."""
        return write(HERE / self.name, self.plan, self.lines, self.rates, self.verdicts)
