"""Which heads of the model random features suit: each head's error less its control, against the norm of its pairs.

Source: ours. The estimate's error grows as the exponential of ‖q + k‖²/√d, and a pretrained head's norms are given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.language_model.model import load_language_model, repeat_groups
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.measures.fidelity import fidelity
from longattn_core.mechanisms.favor import Favor
from longattn_core.sequences.samples import DEFAULT_SAMPLE, sample_text
from longattn_core.sequences.sources import HEADS, Source, SyntheticSource, TextSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Setting
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.favor.finding import only_sinks
from longattn_core.studies.favor.sampled import QUERIES, norms

LAYERS = (0, 2, 5, 7, 11, 14, 17, 21, 26)
"""A sample of the model's thirty layers, denser among the low ones, where norms are small."""
TOKENS = 512
CLOSER, ONLY_SINKS, WORSE = "closer than the mean", "finds only sinks", "worse than the mean"
"""The kinds of heads."""

LayerHeads = dict[int, Sequence]
_captured: SingleFlightCache[LayerHeads] = SingleFlightCache(size=3)


class HeadPoint(Point):
    """One head of the model on one text; all that its error depends on."""

    text: str
    sharpness: float
    setting: Setting
    layer: int
    head: int


class HeadsSuited(Sweep[HeadPoint]):
    """Error and control of every head of a sample of layers, causal, on the first 512 tokens of the source's text.

    Where the source is no text, the default sample is measured instead, and `words["text"]` says so. Table `points`: a row
    a head with `gain` = error − control (below 0: better than the mean), `norm` the median ‖q + k‖²/√d of visible pairs,
    `kind` one of "closer than the mean", "finds only sinks", "worse than the mean".
    """

    key: ClassVar[str] = "favor.heads_suited"
    setting: Setting = Setting(key="favor", dials={"features": 256})
    layers: tuple[int, ...] = Field(LAYERS, min_length=1, max_length=30)

    def points(self) -> tuple[HeadPoint, ...]:
        """Layer by layer."""
        text, sharpness = _text_of(self.source)
        return tuple(
            HeadPoint(text=text, sharpness=sharpness, setting=self.setting, layer=layer, head=head)
            for layer in self.layers
            for head in range(HEADS)
        )

    def measure(self, point: HeadPoint) -> Row:
        """Attend once on one head. Cost: the model's blocks below the highest layer, once for all heads."""
        # All layers in one pass of the model, and kept while this sweep runs.
        layers = _captured.get(f"{self.layers} {point.text}", lambda: _capture(point.text, self.layers))
        sequence = layers[point.layer].select_heads(point.head).sharpened(point.sharpness)
        attended = point.setting.build_as(Favor).attend(sequence)
        measured = fidelity(attended, queries=QUERIES)
        queries = sequence.token_positions[:: max(1, sequence.n // 64)]
        together = norms(sequence, 0, queries)[0][sequence.allowed(queries)]
        row: Row = {"layer": point.layer, "head": point.head, "name": f"L{point.layer}H{point.head}"}
        for suffix, agreement in (("", measured.whole), (" without sinks", measured.without_sinks)):
            row["error" + suffix] = float(agreement.error[0])
            row["control" + suffix] = float(agreement.control[0])
        row |= {"gain": row["error"] - row["control"], "norm": float(together.median()), "sinks": len(measured.sinks[0])}
        return row | {"kind": kind_of(row)}

    @property
    def units(self) -> dict[str, str]:
        """Relative errors; norms after the division by √d."""
        return {"error": "relative", "control": "relative", "gain": "relative", "norm": "‖q+k‖²/√d"}

    def name_of(self, point: HeadPoint) -> str:
        """The head."""
        return f"layer {point.layer}, head {point.head}"

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        own = isinstance(self.source, TextSource)
        return {"text": "this text" if own else "the sample story, because this source is no text of the model's"}


def kind_of(row: Row) -> str:
    """How a head fares: the rule of the page's answer, in three kinds."""
    if row["error"] >= row["control"]:
        return WORSE
    return ONLY_SINKS if only_sinks(row["sinks"], row["error without sinks"], row["control without sinks"]) else CLOSER


def _text_of(source: Source) -> tuple[str, float]:
    if isinstance(source, TextSource):
        return source.content(), source.sharpness
    sharpness = source.settings.sharpness if isinstance(source, SyntheticSource) else source.sharpness
    return sample_text(DEFAULT_SAMPLE), sharpness if math.isfinite(sharpness) else 1.0


def _capture(text: str, layers: tuple[int, ...]) -> LayerHeads:
    model = load_language_model()
    ids = load_tokenizer().encode(text).ids[:TOKENS]
    heads = {}
    for layer, captured in model.capture(ids, layers).items():
        k, v = (repeat_groups(shared, model.config.group_size) for shared in (captured.k, captured.v))
        heads[layer] = Sequence(q=captured.q, k=k, v=v, causal=True, total_heads=model.config.heads)
    return heads


@dataclass(frozen=True, kw_only=True)
class HeadsFinding:
    """How many heads of the sample random features suit, find only the sinks of, and fail; and the best head.

    `kind`: "most" where more than half of the heads are closer than the mean, else "few".
    """

    kind: Literal["few", "most"]
    heads: int
    closer: int
    sinks: int
    worse: int
    best: str
    best_error: float
    best_control: float


def heads_finding(points: pd.DataFrame) -> HeadsFinding:
    """Read the points of a `HeadsSuited` result."""
    closer, sinks, worse = (points[points["kind"] == kind] for kind in (CLOSER, ONLY_SINKS, WORSE))
    best = (closer if len(closer) else points).sort_values("gain").iloc[0]
    return HeadsFinding(
        kind="most" if 2 * len(closer) > len(points) else "few",
        heads=len(points),
        closer=len(closer),
        sinks=len(sinks),
        worse=len(worse),
        best=str(best["name"]),
        best_error=float(best["error"]),
        best_control=float(best["control"]),
    )
