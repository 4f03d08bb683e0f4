"""RESULTS.md and RESULTS.json: the table of a run, with the conditions under which it was measured."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.cells import Cell
from benchmarks.gates import FEATURES, TOLERANCE, Verdict
from benchmarks.machine import Machine
from benchmarks.peer_oracles import ORACLES
from benchmarks.settings import Plan
from benchmarks.table import Line, as_json, markdown
from benchmarks.timing import SLOW

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

Verdicts = Mapping[tuple[str, int], Verdict]
"""The gates' verdicts by the name of the cell and the number of threads."""


def versions() -> dict[str, str]:
    """The installed version of every package that is measured."""
    return {name: _version(name) for name in PACKAGES}


def write(path: Path, plan: Plan, lines: Collection[Line], rates: Mapping[int, Machine], verdicts: Verdicts) -> str:
    """Write the table to `path`.md and `path`.json, and return the Markdown. `rates` are the machine's, by threads."""
    listed = ", ".join(f"{name} {number}" for name, number in versions().items())
    heading = (
        f"# Benchmark\n\n{plan.heads} heads, d = {plan.width}, float32, unit Gaussian inputs, {platform.machine()}, "
        f"{os.cpu_count()} cores. {listed}."
    )
    text = markdown(lines, heading, [*_notes(plan, rates, verdicts)])
    facts = {
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
        "versions": versions(),
        "heads": plan.heads,
        "width": plan.width,
        "rounds": plan.rounds,
        "rates": {threads: vars(rate) for threads, rate in rates.items()},
        "gates": [{"cell": name, "threads": threads, **vars(verdict)} for (name, threads), verdict in verdicts.items()],
    }
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(as_json(lines, facts), encoding="utf-8")
    return text


def _notes(plan: Plan, rates: Mapping[int, Machine], verdicts: Verdicts) -> Iterator[str]:
    yield (
        "~: extrapolated from the two longest lengths that were measured, because a call was expected to take more than "
        f"{plan.seconds_a_call:g} s."
    )
    yield (
        f"Times are medians of {plan.rounds} interleaved rounds after one that warms up; a call of more than "
        f"{SLOW:g} s counts from the first on, and is repeated once at most. Memory is the peak of a process of its own "
        "above inputs and output, with one thread."
    )
    yield (
        "Before it is timed each cell is held, in float32 and with the threads that are timed, against its definition in "
        f"float64: every row within {TOLERANCE:g} of its length (features: {FEATURES:g}), which is what float32 rounds."
    )
    for threads, rate in rates.items():
        if math.isnan(rate.multiply_adds + rate.bytes):
            continue
        yield (
            f"{threads} thread(s): {rate.multiply_adds / 1e9:.1f} billion multiply-adds and {rate.bytes / 1e9:.1f} GB a "
            "second. The share of the limit is the time that the counted multiply-adds or bytes would take at these "
            "rates, the longer of the two, over the time that was measured."
        )
    bugs = {
        peer.name: (oracle.bug, _moved(verdicts, Cell(row.causal, row, peer)))
        for row in plan.rows
        for peer in row.peers
        if (oracle := ORACLES[peer.name]).bug is not None
    }
    for name, (bug, moves) in bugs.items():
        size = "" if moves is None else f" (moves an output by up to {moves:.2g})"
        yield f"{name} is held against its definition with its own bug: {bug}{size}."


def _moved(verdicts: Verdicts, cell: Cell) -> float | None:
    return next((verdict.bug_moves for (name, _), verdict in verdicts.items() if name == cell.name), None)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
