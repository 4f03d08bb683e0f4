"""Time and memory of every mechanism's pooled maps on long sequences, as one Markdown table: `python -m benchmarks.maps`.

One head, d = 64, float32.
- mean: the whole map in 512 × 512 cells at 65,536 tokens;
- window: 512 × 512 single tokens, once on the diagonal in the middle, once the last queries with keys in the middle;
- largest: the whole map at 8,192 tokens.

Each time is the shortest of some rounds, in a process of its own. The last column is the peak memory above that of attending.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter, process_time

import torch

from benchmarks.memory import peak_megabytes
from longattn_core import Sequence
from longattn_core.contracts.mechanism import Attended, Mechanism
from longattn_core.registry import mechanism, mechanisms

LONG, SHORT, CELLS = 65_536, 8_192, 512
SLOW = 5.0
"""After a round of more than this many seconds no further round is made."""


def head(n: int, causal: bool) -> Sequence:
    """One unit Gaussian head."""
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, n, 64, generator=source) for _ in range(3))
    return Sequence(q=q, k=k, v=v, causal=causal)


def settings() -> list[Mechanism]:
    """Every variant that costs less than n²."""
    variants = [setting for kind in mechanisms().values() if not kind.quadratic for setting in kind.variants()]
    return [setting for setting in variants if not setting.cubic]


def least_seconds(run: Callable[[], object], rounds: int, clock: Callable[[], float]) -> float:
    """The shortest of some rounds; a single round where one takes long."""
    best = float("inf")
    for _ in range(rounds):
        begun = clock()
        run()
        best = min(best, clock() - begun)
        if best > SLOW:
            break
    return best


def _measure(argument: str) -> None:
    given = json.loads(argument)
    torch.set_num_threads(given["threads"])
    setting, rounds = mechanism(given["key"], **given["dials"]), given["rounds"]
    clock = process_time if given["busy"] else perf_counter
    with torch.inference_mode():
        attended: Attended = setting.attend(head(LONG, given["causal"]))
        before = peak_megabytes()
        middle = (LONG // 2 - CELLS // 2, LONG // 2 + CELLS // 2)
        seconds = [
            least_seconds(attended.pooled, rounds, clock),
            least_seconds(lambda: attended.pooled(middle, middle), rounds, clock),
            least_seconds(lambda: attended.pooled((LONG - CELLS, LONG), middle), rounds, clock),
        ]
        peak = peak_megabytes()
        short = setting.attend(head(SHORT, given["causal"]))
        seconds.append(least_seconds(lambda: short.pooled(reduce="max"), rounds, clock))
    print(json.dumps([*seconds, peak, peak - before]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--busy", action="store_true", help="processor seconds, for a machine that others use too")
    parser.add_argument("--only", nargs="+", default=[], help="keys of mechanisms; all if none is named")
    parser.add_argument("--masks", nargs="+", choices=["causal", "none"], default=["causal", "none"])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        _measure(given.measure)
        return
    clock = "processor time" if given.busy else "time"
    print(f"one head, d = 64, float32, {given.threads} thread(s), torch {torch.__version__}, {clock}, least of {given.rounds}\n")
    print(
        f"| mechanism | mask | mean, {LONG:,} (s) | window, middle (ms) | window, end (ms) | largest, {SHORT:,} (s) "
        "| peak (MB) | for the maps (MB) |\n|---|---|---|---|---|---|---|---|"
    )
    for setting in settings():
        if given.only and setting.key not in given.only:
            continue
        for mask in given.masks:
            if setting.refuses(head(16, mask == "causal")) is not None:
                continue
            argument = json.dumps(
                {
                    "key": setting.key,
                    "dials": setting.model_dump(mode="json"),
                    "causal": mask == "causal",
                    "rounds": given.rounds,
                    "threads": given.threads,
                    "busy": given.busy,
                }
            )
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.maps", "--measure", argument], check=True, capture_output=True, text=True
            )
            mean, middle, end, largest, peak, above = json.loads(done.stdout)
            print(
                f"| {setting.key}: {setting.label} | {mask} | {mean:.2f} | {middle * 1e3:.0f} | {end * 1e3:.0f} "
                f"| {largest:.2f} | {peak:.0f} | {above:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
