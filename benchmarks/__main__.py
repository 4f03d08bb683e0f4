"""Every mechanism beside torch's exact attention and the library of its kind: one table, as Markdown and as JSON.

`python -m benchmarks` measures what settings.toml lists; with `--quick` it takes three minutes. Gates come first: ours is
compared with the independent oracle, a peer with its definition including its named bug, both in the precision and with the
threads that are timed. A cell that fails gets no speed. A run that was stopped continues where it was, if nothing has changed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from benchmarks.run import Run
from benchmarks.settings import plan


def main() -> None:
    """Run the gates, measure times and memory, write and print the table."""
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
