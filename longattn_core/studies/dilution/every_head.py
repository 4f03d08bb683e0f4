"""Every head of the language model as one text grows: how widely it spreads, and what its sinks take."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.language_model.model import exact_attention, load_language_model
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import entropy, find_sinks, sink_mask
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.sweep import Point, Row, Sweep

__all__ = ["EveryHead", "HeadsPoint"]

SHORTEST = 64
SINK_QUERIES = 96


class HeadsPoint(Point):
    """The first n tokens of a text, named by its hash."""

    text: str
    n: int
    queries: int
    sharpness: float


class EveryHead(Sweep[HeadsPoint]):
    """All heads on the first 64, 128 … `longest` tokens of the source's text, under the causal mask, a pass each.

    Table `heads`: a row a head and length: means over the prefix's last `queries` tokens of `entropy` (nats), `effective`
    tokens, `sinks` (share of weight) and `effective without sinks`. Layer and head of the source are not read; its sharpness
    multiplies the scores that are measured, not those inside the model. Cost: passes of the model, which streams its layers.
    """

    key: ClassVar[str] = "dilution.every_head"
    longest: int = Field(1024, ge=1, le=2048)
    queries: int = Field(16, ge=1, le=64)

    def points(self) -> tuple[HeadsPoint, ...]:
        """Short prefixes first. Raises: ValueError when the source is no text."""
        source = self._text()
        ids = load_tokenizer().encode(source.content()).ids
        most = min(len(ids), self.longest, source.length or self.longest)
        lengths = [SHORTEST << i for i in range(12) if SHORTEST << i < most] + [most]
        name = hashlib.sha256(source.content().encode("utf-8", "replace")).hexdigest()
        return tuple(HeadsPoint(text=name, n=n, queries=self.queries, sharpness=source.sharpness) for n in lengths)

    def measure(self, point: HeadsPoint) -> Row:
        """One pass of the model over a prefix; each column of the row is a list with an entry a head."""
        model = load_language_model()
        ids = load_tokenizer().encode(self._text().content()).ids[: point.n]
        columns: dict[str, list[Any]] = {
            name: [] for name in ("layer", "head", "entropy", "effective", "sinks", "effective without sinks")
        }

        def recorder(q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
            sequence = Sequence(q=q, k=k, v=v, causal=True).sharpened(point.sharpness)
            columns["layer"] += [layer] * sequence.h
            columns["head"] += list(range(sequence.h))
            for name, values in _measured(sequence, point.queries).items():
                columns[name] += values.tolist()
            return exact_attention(q, k, v, layer)

        model.hidden(ids, attention=recorder)
        return {"n": point.n, **columns}

    def name_of(self, point: HeadsPoint) -> str:
        """What is being read."""
        return f"{point.n:,} tokens"

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        heads = rows.explode([name for name in rows.columns if name != "n"], ignore_index=True)
        heads = heads.astype({name: int if name in ("n", "layer", "head") else float for name in heads.columns})
        heads["name"] = "L" + heads["layer"].astype(str) + " H" + heads["head"].astype(str)
        heads.attrs["units"] = {
            "n": "tokens",
            "entropy": "nats",
            "effective": "tokens",
            "effective without sinks": "tokens",
            "sinks": "share of weight",
        }
        return {"heads": heads}

    def _text(self) -> TextSource:
        if not isinstance(self.source, TextSource):
            raise ValueError("All 270 heads of the model are read on a text; choose “Text” on the left.")
        return self.source


def _measured(sequence: Sequence, queries: int) -> dict[str, Float[Tensor, "h"]]:
    sinks = sink_mask(find_sinks(sequence, sample_queries(sequence, min(SINK_QUERIES, sequence.n))), sequence.n)[:, None]
    weights = exact_rows(sequence, torch.arange(max(0, sequence.n - queries), sequence.n)).double()
    nats = entropy(weights)
    return {
        "entropy": nats.mean(-1),
        "effective": nats.exp().mean(-1),
        "sinks": (weights * sinks).sum(-1).mean(-1),
        "effective without sinks": _effective(weights.masked_fill(sinks, 0.0)).mean(-1),
    }


def _effective(weights: Float[Tensor, "h r n"]) -> Float[Tensor, "h r"]:
    """e^H of each row, normalised to sum 1; 0 for a row without weight."""
    total = weights.sum(-1, keepdim=True)
    shares = torch.where(total > 0, weights / total, torch.zeros_like(weights))
    return torch.where(total.squeeze(-1) > 0, entropy(shares).exp(), torch.zeros_like(total.squeeze(-1)))
