"""The rows of the table, read from settings.toml: which of our settings is measured, beside which peer, with which arguments."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longattn_core import Sequence, mechanism
from longattn_core.contracts.mechanism import Mechanism

FILE = Path(__file__).with_name("settings.toml")


@dataclass(frozen=True, kw_only=True)
class PeerSetting:
    """One peer of a row: its key in `peers.PEERS`, its arguments, the longest n for which it is run, and the ratio to reach.

    `compiled` marks a peer that takes longer to compile than to time. The quick run leaves it out. Its memory is not measured,
    because it cannot be separated from the compiler's.
    """

    name: str
    arguments: Mapping[str, Any]
    longest: int | None = None
    least: float | None = None
    compiled: bool = False

    def at(self, n: int) -> dict[str, Any]:
        """The arguments for n tokens."""
        return filled(self.arguments, n)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting of ours and its peers. `least` holds what must be reached: `exact`, `multiply_rate`.

    `gate_length` is set where the code that is timed is used only for more tokens than the plan's gate has.
    """

    name: str
    mechanism: str
    dials: Mapping[str, Any]
    causal: bool
    gate_length: int | None = None
    peers: tuple[PeerSetting, ...] = ()
    least: Mapping[str, float]

    def ours(self, n: int) -> Mechanism:
        """The mechanism with its dials for n tokens. Raises: ValueError when a dial is unknown or out of bounds."""
        return mechanism(self.mechanism, **filled(self.dials, n))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run measures. After `minutes` no new cell is started (None: no limit)."""

    heads: int
    width: int
    lengths: tuple[int, ...]
    threads: tuple[int, ...]
    rounds: int
    seconds_a_call: float
    minutes: float | None
    gate_length: int
    rows: tuple[Row, ...]

    def sequence(self, n: int, *, causal: bool, heads: int = 0, draw: int = 0) -> Sequence:
        """Unit Gaussian heads in float32, the same for every call with the same n and the same draw."""
        source = torch.Generator().manual_seed(n + (draw << 20))
        shape = (heads or self.heads, n, self.width)
        q, k, v = (torch.randn(shape, generator=source) for _ in range(3))
        return Sequence(q=q, k=k, v=v, causal=causal)


def filled(values: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The values, with every text such as "n/64" replaced by its number, at least 1."""
    out = {}
    for name, value in values.items():
        share = re.fullmatch(r"n/(\d+)", value) if isinstance(value, str) else None
        out[name] = value if share is None else max(1, n // int(share[1]))
    return out


def plan(*, quick: bool, only: str | None = None) -> Plan:
    """The plan in settings.toml. `only` keeps the rows whose name contains it. Raises: ValueError when none does."""
    content = tomllib.loads(FILE.read_text(encoding="utf-8"))
    rows = tuple(_row(entry) for entry in content["row"])
    some = content["quick"].pop("rows")
    if quick:
        rows = tuple(row for row in rows if row.name in some)
    if only is not None:
        rows = tuple(row for row in rows if only.lower() in row.name.lower())
        if not rows:
            raise ValueError(f"No row's name holds {only!r}; the rows stand in {FILE.name}.")
    inputs = {"minutes": None, **content["inputs"], **(content["quick"] if quick else {})}
    for name in ("lengths", "threads"):
        inputs[name] = tuple(inputs[name])
    return Plan(**inputs, rows=rows)


def _row(entry: Mapping[str, Any]) -> Row:
    peers = tuple(PeerSetting(**peer) for peer in entry.get("peer", ()))
    rest = {name: value for name, value in entry.items() if name != "peer"}
    return Row(**{"least": {}, **rest, "peers": peers})
