"""Patterns put into every layer of the whole model: its perplexity, and whether it still knows what comes next.

Source: combining hashing with sinks and a window is the article's own conclusion; that perplexity hides such a loss is measured
here. The window and the sinks alone stand beside the combination: they are its control.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.language_model.model import LanguageModel, load_language_model
from longattn_core.language_model.tokenizer import load_tokenizer
from longattn_core.mechanisms.exact.mechanism import Exact
from longattn_core.mechanisms.lsh import LSH
from longattn_core.mechanisms.window import Window
from longattn_core.sequences.samples import DEFAULT_SAMPLE, sample_text
from longattn_core.sequences.sources import Source, TextSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import Setting
from longattn_core.studies.base.sweep import Point, Row, Sweep

LONGEST = 512
"""Tokens of the text that are read: each point is the whole model once."""
SEEDS = 3


class SwapPoint(Point):
    """One mechanism in all 30 layers, on the first `tokens` of a text."""

    text: str
    tokens: int
    setting: Setting
    name: str


class Swaps(Sweep[SwapPoint]):
    """Perplexity and the probability of what the unchanged model expects next, for each pattern in every layer.

    Table `points`: `name`, `key`, `seed`, `perplexity`, `expected` (the token that the unchanged model is surest of after
    the text), `probability` (what the swapped model gives it). Table `swaps`: one row a name, means over seeds and their
    range. A synthetic or uploaded source has no text: the story stands in, and `words["text"]` says so.
    """

    key: ClassVar[str] = "window.swaps"
    width: int = Field(60, ge=1, le=512)
    sinks: int = Field(4, ge=0, le=64)

    def points(self) -> tuple[SwapPoint, ...]:
        """The unchanged model first; the hash's further seeds last."""
        text, tokens = text_of(self.source)
        return tuple(
            SwapPoint(text=text, tokens=tokens, setting=Setting.of(mechanism), name=name)
            for name, mechanism in candidates(self.width, self.sinks)
        )

    def measure(self, point: SwapPoint) -> Row:
        """The model once, with the point's mechanism in every layer. Cost: 2 to 6 s at 512 tokens."""
        mechanism = point.setting.build()
        ids = tuple(load_tokenizer().encode(point.text).ids[: point.tokens])
        logits = swapped_logits(load_language_model(), ids, mechanism)
        expected, token = _expected(ids)
        return {
            "name": point.name,
            "key": mechanism.key,
            "seed": mechanism.seed,
            "perplexity": perplexity(logits, ids),
            "expected": token,
            "probability": float(logits[-1].double().softmax(-1)[expected]),
        }

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column."""
        return {"perplexity": "tokens as likely", "probability": "probability", "seed": "number"}

    def name_of(self, point: SwapPoint) -> str:
        """The pattern's name."""
        return point.name

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        records: list[dict[str, Any]] = []
        for name, group in rows.groupby("name", sort=False):
            logs = np.log(group["perplexity"])
            records.append(
                {
                    "name": name,
                    "key": group["key"].iloc[0],
                    "perplexity": float(np.exp(logs.mean())),
                    "least": float(group["perplexity"].min()),
                    "most": float(group["perplexity"].max()),
                    "probability": float(group["probability"].mean()),
                    "lowest": float(group["probability"].min()),
                    "highest": float(group["probability"].max()),
                    "seeds": len(group),
                }
            )
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {
            **dict.fromkeys(("perplexity", "least", "most"), "tokens as likely"),
            **dict.fromkeys(("probability", "lowest", "highest"), "probability"),
        }
        return {"swaps": table}

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        _text, tokens = text_of(self.source)
        own = self.source.kind == "text"
        return {"expected": str(rows["expected"].iloc[0]), "text": "own" if own else "story", "tokens": str(tokens)}


def candidates(width: int, sinks: int) -> tuple[tuple[str, Mechanism], ...]:
    """The patterns that are put into the model, each with its name."""
    wide = 380
    first = [
        ("exact", Exact()),
        (f"window {width} + {sinks} sinks", Window(width=width, sinks=sinks)),
        (f"window {wide} + 4 sinks", Window(width=wide, sinks=4)),
        (f"window {width}", Window(variant="sliding", width=width)),
        ("window 16 + 4 sinks", Window(width=16, sinks=4)),
        ("hash + 4 sinks + window 16", LSH(sinks=4, local=16)),
        ("hash 16 × 4", LSH()),
    ]
    again = [(name, one.with_dials(seed=seed)) for seed in range(1, SEEDS) for name, one in first if isinstance(one, LSH)]
    # Two settings of the visitor may be one of ours.
    return tuple({name: (name, one) for name, one in first}.values()) + tuple(again)


def text_of(source: Source) -> tuple[str, int]:
    """The text that the model reads and how many of its tokens: the source's own, or the story's."""
    if not isinstance(source, TextSource):
        return sample_text(DEFAULT_SAMPLE), LONGEST
    return source.content(), min(source.length or LONGEST, LONGEST)


def swapped_logits(model: LanguageModel, ids: tuple[int, ...], mechanism: Mechanism) -> Float[Tensor, "n v"]:
    """The model's scores of every next token with one mechanism in all layers, each layer with a draw of its own."""

    def attention(
        q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"], layer: int
    ) -> Float[Tensor, "h n e"]:
        own = mechanism.with_dials(seed=1000 * mechanism.seed + layer)
        return own.attend(Sequence(q=q, k=k, v=v, causal=True)).output

    with torch.inference_mode():
        if isinstance(mechanism, Exact):
            return model.logits(ids)
        return model.logits(ids, attention=attention)


def perplexity(logits: Float[Tensor, "n v"], ids: tuple[int, ...]) -> float:
    """exp of the mean loss of each token given those before it: among how many equally likely tokens the model wavers."""
    if len(ids) < 2:
        return float("nan")
    loss = torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:]))
    return math.exp(float(loss))


_guesses: SingleFlightCache[tuple[int, str]] = SingleFlightCache(size=32)


def _expected(ids: tuple[int, ...]) -> tuple[int, str]:
    """What the unchanged model expects after the text: the token's number, and its string."""

    def make() -> tuple[int, str]:
        with torch.inference_mode():
            best = int(load_language_model().logits(ids, positions=[-1])[0].argmax())
        return best, token_name(best)

    return _guesses.get(" ".join(map(str, ids)), make)


def token_name(number: int) -> str:
    """A vocabulary entry as text."""
    return load_tokenizer().decode([number])
