"""One cell of the table stands for one call on n tokens: torch's exact attention, one of our mechanisms, or one peer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch.nn.functional import scaled_dot_product_attention

from benchmarks.peers import PEERS
from benchmarks.settings import PeerSetting, Plan, Row

Kind = Literal["exact", "ours", "peer"]


@dataclass(frozen=True)
class Cell:
    """What is run. `row` is None for torch's exact attention; `peer` is None for ours."""

    causal: bool
    row: Row | None = None
    peer: PeerSetting | None = None

    @property
    def name(self) -> str:
        """The same name for the same work, so that it is measured once."""
        mask = "causal" if self.causal else "unmasked"
        if self.row is None:
            return f"torch's exact attention, {mask}"
        if self.peer is None:
            return self.row.name
        return f"{self.peer.name} {dict(self.peer.arguments)}, {mask}"


def prepared(plan: Plan, cell: Cell, n: int) -> Callable[[], object]:
    """The call to be timed, with its inputs already made. Raises: whatever a peer raises."""
    sequence = plan.sequence(n, causal=cell.causal)
    if cell.row is None:
        q, k, v = (x[None] for x in (sequence.q, sequence.k, sequence.v))
        return lambda: scaled_dot_product_attention(q, k, v, is_causal=cell.causal)
    if cell.peer is None:
        setting = cell.row.ours(n)
        return lambda: setting.attend(sequence)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PEERS[cell.peer.name](sequence, **cell.peer.at(n)).attend
