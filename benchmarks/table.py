"""The table as Markdown, and the same lines as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from collections.abc import Sequence as Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.timing import Time

COLUMNS = (
    "n",
    "threads",
    "mechanism",
    "ms",
    "exact / ours",
    "share of the limit",
    "MB",
    "peer",
    "peer ms",
    "peer / ours",
    "peer MB",
    "to reach",
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One setting of ours beside one peer (or none) at one length.

    `exact` is torch's exact attention. `limit` is the share of the machine's limit that ours reaches, `multiply_rate` the share
    of the matrix-multiply rate. Megabytes are those above inputs and output, or the sentence why there are none. `least` holds
    what must be reached: `exact`, `multiply_rate`, `peer`, `memory`. `fault` and `peer_fault` come from the gates.
    """

    n: int
    threads: int
    mechanism: str
    ours: Time
    exact: Time
    limit: float | None = None
    multiply_rate: float | None = None
    megabytes: float | str | None = None
    peer: str | None = None
    peer_time: Time | None = None
    peer_megabytes: float | str | None = None
    least: Mapping[str, float] = field(default_factory=dict)
    fault: str | None = None
    peer_fault: str | None = None

    def __post_init__(self) -> None:
        # What failed its gate gets no speed, even if it was timed.
        if self.fault is not None:
            object.__setattr__(self, "ours", Time(reason=self.fault))
            for name in ("limit", "multiply_rate", "megabytes"):
                object.__setattr__(self, name, None)
        if self.peer_fault is not None:
            object.__setattr__(self, "peer_time", Time(reason=self.peer_fault))
            object.__setattr__(self, "peer_megabytes", None)

    @property
    def over_exact(self) -> float | None:
        """The time of torch's exact attention over ours."""
        return _ratio(self.exact, self.ours)

    @property
    def over_peer(self) -> float | None:
        """The peer's time over ours."""
        return None if self.peer_time is None else _ratio(self.peer_time, self.ours)

    @property
    def memory_share(self) -> float | None:
        """Our memory over the peer's."""
        mine, its = self.megabytes, self.peer_megabytes
        return mine / its if isinstance(mine, float) and isinstance(its, float) and its > 0 else None

    def reached(self) -> dict[str, tuple[float | None, float, bool]]:
        """For each requirement: the measured value, the required one, and whether it is reached (memory: at most that)."""
        measured = {
            "exact": self.over_exact,
            "peer": self.over_peer,
            "memory": self.memory_share,
            "multiply_rate": self.multiply_rate,
        }
        out = {}
        for name, required in self.least.items():
            value = measured[name]
            is_reached = value is not None and (value <= required if name == "memory" else value >= required)
            out[name] = (value, required, is_reached)
        return out


def markdown(lines: Collection[Line], heading: str, notes: Collection[str]) -> str:
    """One table; `~` marks extrapolated numbers, and a sentence stands where there is no number."""
    out = [heading, "", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    out += [f"| {' | '.join(_cells(line))} |" for line in lines]
    return "\n".join([*out, "", *(f"- {note}" for note in notes), ""])


def as_json(lines: Collection[Line], facts: Mapping[str, Any]) -> str:
    """The same lines with their ratios; a missing number is null."""
    content = []
    for line in lines:
        ratios = {"exact_over_ours": line.over_exact, "peer_over_ours": line.over_peer}
        reached = {
            name: {"found": value, "asked": required, "reached": is_reached}
            for name, (value, required, is_reached) in line.reached().items()
        }
        content.append({**asdict(line), **ratios, "memory_over_peer": line.memory_share, "reached": reached})
    return json.dumps(_plain({**facts, "lines": content}), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _cells(line: Line) -> tuple[str, ...]:
    peer = line.peer_time
    share = "–" if line.limit is None else f"{line.limit:.0%}"
    return (
        f"{line.n:,}",
        str(line.threads),
        line.mechanism,
        _milliseconds(line.ours),
        _times(line.over_exact, line.exact.extrapolated or line.ours.extrapolated),
        share,
        _megabytes(line.megabytes),
        line.peer or "–",
        "–" if peer is None else _milliseconds(peer),
        "–" if peer is None else _times(line.over_peer, peer.extrapolated or line.ours.extrapolated),
        _megabytes(line.peer_megabytes),
        _reached(line),
    )


def _reached(line: Line) -> str:
    words = {"exact": "exact/ours", "peer": "peer/ours", "memory": "MB/peer's", "multiply_rate": "of the multiply rate"}
    parts = []
    for name, (value, required, is_reached) in line.reached().items():
        sign = "≤" if name == "memory" else "≥"
        requirement = f"{words[name]} {sign} {required:.2g}"
        parts.append(f"{requirement} ✓" if is_reached else f"**{requirement}: {'–' if value is None else f'{value:.2g}'}**")
    return "; ".join(parts) or "–"


def _ratio(above: Time, below: Time) -> float | None:
    ratio = above.seconds / below.seconds
    return ratio if math.isfinite(ratio) else None


def _milliseconds(time: Time) -> str:
    if time.reason is not None:
        return time.reason
    return f"{'~' if time.extrapolated else ''}{time.seconds * 1e3:,.1f}"


def _times(ratio: float | None, is_extrapolated: bool) -> str:
    return "–" if ratio is None else f"{'~' if is_extrapolated else ''}{ratio:.2f}"


def _megabytes(held: float | str | None) -> str:
    if held is None:
        return "–"
    return held if isinstance(held, str) else f"{held:,.0f}"


def _plain(value: Any) -> Any:
    """The value without infinities and NaN, which JSON does not have: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
