"""Which heads of the model random features suit: each head's error less its control, against the norm of its pairs.

Source: ours. A pretrained head's queries and keys are what they are; the estimate's error grows as the exponential of
‖q + k‖²/√d.
"""

from __future__ import annotations

import math
from typing import ClassVar

import pandas as pd
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.language_model.model import load_language_model, repeat_groups
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.measures.fidelity import fidelity
from longattn_core.sequences.samples import DEFAULT_SAMPLE, sample_text
from longattn_core.sequences.sources import HEADS, SyntheticSource, TextSource, UploadedSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Setting
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.favor.common import QUERIES, favor_of, norms

LAYERS = (0, 2, 5, 7, 11, 14, 17, 21, 26)
"""A sample of the model's thirty layers: the low ones, where norms are small, more densely."""
TOKENS = 512

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

    A source that is no text is measured on the default sample, which `words["text"]` then says. Table `points`: a row a
    head with `gain` = error − control (below 0: better than the mean), `norm` the median ‖q + k‖²/√d of visible pairs,
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
        attended = favor_of(point.setting).attend(sequence)
        found = fidelity(attended, queries=QUERIES)
        queries = sequence.token_positions[:: max(1, sequence.n // 64)]
        together = norms(sequence, 0, queries)[0][sequence.allowed(queries)]
        row: Row = {"layer": point.layer, "head": point.head, "name": f"L{point.layer}H{point.head}"}
        for suffix, agreement in (("", found.whole), (" without sinks", found.without_sinks)):
            row["error" + suffix] = float(agreement.error[0])
            row["control" + suffix] = float(agreement.control[0])
        row |= {"gain": row["error"] - row["control"], "norm": float(together.median()), "sinks": len(found.sinks[0])}
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
    """How a head fares: the rule of the finding, in three kinds."""
    if row["error"] >= row["control"]:
        return "worse than the mean"
    nothing = 0.9 * min(1.0, row["control without sinks"])
    return "finds only sinks" if row["sinks"] and row["error without sinks"] >= nothing else "closer than the mean"


def _text_of(source: TextSource | SyntheticSource | UploadedSource) -> tuple[str, float]:
    if isinstance(source, TextSource):
        return source.content(), source.sharpness
    sharpness = source.settings.sharpness if isinstance(source, SyntheticSource) else source.sharpness
    return sample_text(DEFAULT_SAMPLE), sharpness if math.isfinite(sharpness) else 1.0


def _capture(text: str, layers: tuple[int, ...]) -> LayerHeads:
    model = load_language_model()
    ids = load_tokenizer().encode(text).ids[:TOKENS]
    found = model.capture(ids, layers)
    out = {}
    for layer, one in found.items():
        k, v = (repeat_groups(shared, model.config.group_size) for shared in (one.k, one.v))
        out[layer] = Sequence(q=one.q, k=k, v=v, causal=True, total_heads=model.config.heads)
    return out
