"""Time and memory of every mechanism beside torch's exact attention, as one Markdown table.

Each length is timed in rounds: in every round each mechanism runs once, so that a slow moment of the machine hits all
alike; the median of the rounds and its ratio to exact attention's are printed. Memory is the peak of a process of its
own above what it held before. Before anything is timed, `rows @ v` must give the output: else the row says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence as Collection
from statistics import median
from time import perf_counter

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.memory import peak_megabytes as held_megabytes
from longattn_core import Sequence
from longattn_core.contracts import Mechanism
from longattn_core.registry import mechanism, mechanisms

HEADS, WIDTH = 8, 64
LONGEST_QUADRATIC = 4096


def heads(n: int, *, count: int = HEADS, dtype: torch.dtype = torch.float32) -> Sequence:
    """Unit Gaussian heads under a causal mask."""
    source = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(count, n, WIDTH, generator=source, dtype=torch.float64).to(dtype) for _ in range(3))
    return Sequence(q=q, k=k, v=v, causal=True)


def wrong(setting: Mechanism) -> str | None:
    """None when the implied weights give the output; else what is wrong, in place of a speed."""
    small = heads(257, count=2, dtype=torch.float64)
    if (refusal := setting.refuses(small)) is not None:
        return refusal
    attended = setting.attend(small)
    implied = attended.rows() @ small.v + (0.0 if attended.offset is None else attended.offset)
    error = float((implied - attended.output).abs().max())
    return None if error < 1e-9 else f"red: rows @ v differ from the output by {error:.1g}"


def settings() -> list[Mechanism]:
    """What the home page shows, at a budget of 64 keys or features."""
    return [shown for kind in mechanisms().values() for shown in kind.showcase()]


def timed(n: int, chosen: Collection[Mechanism], rounds: int) -> dict[str, float]:
    """Median seconds of torch's own attention ("sdpa") and of each setting, in interleaved rounds."""
    sequence = heads(n)
    spent: dict[str, list[float]] = {}
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for name, setting in (("sdpa", None), *((s.label, s) for s in chosen)):
                begun = perf_counter()
                if setting is None:
                    scaled_dot_product_attention(sequence.q, sequence.k, sequence.v, is_causal=True)
                else:
                    setting.attend(sequence)
                if turn:  # the first round warms up
                    spent.setdefault(name, []).append(perf_counter() - begun)
    return {name: median(times) for name, times in spent.items()}


def peak_megabytes(setting: Mechanism, n: int) -> float:
    """The most that a process of its own held above what it held before it attended."""
    argument = json.dumps({"key": setting.key, "dials": setting.model_dump(mode="json"), "n": n})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--peak", argument], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _peak(argument: str) -> None:
    content = json.loads(argument)
    setting, sequence = mechanism(content["key"], **content["dials"]), heads(content["n"])
    before = held_megabytes()
    with torch.inference_mode():
        setting.attend(sequence)
    print(held_megabytes() - before)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak:
        _peak(given.peak)
        return
    print(
        f"{HEADS} heads, d = {WIDTH}, float32, causal, {given.threads} thread(s), {platform.machine()}, "
        f"torch {torch.__version__}\n"
    )
    print("| n | mechanism | ms | exact (torch) / this | peak MB above inputs |\n|---|---|---|---|---|")
    for n in given.lengths:
        budgeted = [setting.budgeted(min(64, n), n) for setting in settings()]
        budgeted = [setting for setting in budgeted if n <= LONGEST_QUADRATIC or not setting.quadratic]
        faults = {setting.label: fault for setting in budgeted if (fault := wrong(setting)) is not None}
        sound = [s for s in budgeted if s.label not in faults and s.refuses(heads(n, count=1)) is None]
        medians = timed(n, sound, given.rounds)
        print(f"| {n:,} | exact (torch) | {medians['sdpa'] * 1e3:.1f} | 1.00 | |")
        for setting in sound:
            ratio = medians["sdpa"] / medians[setting.label]
            spent, held = medians[setting.label] * 1e3, peak_megabytes(setting, n)
            print(f"| {n:,} | {setting.label} | {spent:.1f} | {ratio:.2f} | {held:.0f} |")
        for label, fault in faults.items():
            print(f"| {n:,} | {label} | – | – | {fault} |")


if __name__ == "__main__":
    main()
