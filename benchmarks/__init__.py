"""Speed and memory, measured. No speed is reported for anything that fails its check.

`python -m benchmarks` (`make bench`) times every mechanism beside torch's exact attention and the library of its kind:

| file | holds |
|---|---|
| `settings.toml`, `settings.py` | what is measured, beside which library, and what must be reached |
| `cells.py`, `peers.py` | the calls that are timed: exact attention, ours, and those of the libraries |
| `gates.py`, `peer_oracles.py` | the checks that come before any timing |
| `timing.py`, `memory.py`, `machine.py` | times in interleaved rounds, peak memory, and the limits of the machine |
| `run.py`, `journal.py` | one run of the plan, and its journal, from which a stopped run continues |
| `table.py`, `report.py` | the results as Markdown and JSON: `RESULTS.md`, `RESULTS.json` |

Three other benchmarks print a table of their own: `python -m benchmarks.maps` (pooled maps), `python -m benchmarks.interaction`
(dials in the browser; `floor.py` is the emptiest app) and `python -m benchmarks.opening` (start and page changes). The last
two use `browser.py`.
"""
