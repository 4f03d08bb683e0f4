"""What distance adds to a score: every scheme's curve for one head, S_rel as a matrix, and where the weight then goes.

Source: the papers named in `mechanisms.relative`. The curves are those of a scheme's trace: what a distance adds to every
score (ALiBi, T5), to the mean query's (Shaw, Music Transformer, Transformer-XL), or to that of the mean query with the
mean key (RoPE); of sinusoids only the product of the two position vectors, all of it that depends on distance alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Attended, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import mass_by_distance
from longattn_core.mechanisms.relative import Relative
from longattn_core.mechanisms.relative.map import RelativeMap
from longattn_core.numerics.rotary import unrotate
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.cells import pooled_by_size
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Progress, Result, Setting

LONGEST = 1024
"""Every scheme computes n² scores here: a longer sequence is cut to its first tokens."""
LONGEST_MATRIX = 512
SAMPLE = 128
"""Queries whose rows are looked at where the weight's way over distances is measured."""
FLAT = 1e-6
"""A curve that moves less than this does not move."""
NEAR = 8
"""Up to this distance a key is a neighbour."""

Floats = npt.NDArray[np.float64]
Shape = Literal["flat", "falls", "rises", "swings", "absolute", "alone", "refused"]


def usual_base(source: Source) -> float:
    """The rotary base that the source's heads were trained with: the language model's, or the papers' for other sources."""
    if source.kind != "text":
        return 10_000.0
    # Here and not above: synthetic sequences must work where the model's packages do not.
    from longattn_core.language_model.model import load_language_model

    return float(load_language_model().config.rotary_base)


def unturned(sequence: Sequence) -> Sequence:
    """The same sequence with its rotary positions taken off: content alone. Lengths of queries and keys stay."""
    if sequence.rotary is None:
        return sequence
    q, k = (unrotate(x, sequence.token_positions, sequence.rotary) for x in (sequence.q, sequence.k))
    return replace(sequence, q=q, k=k, rotary=None)


def schemes(chosen: Relative, n: int) -> tuple[Relative, ...]:
    """Every scheme at the chosen one's strength, seed, base and lengths.

    The ways past the trained length T are there only where n > T: up to it they are RoPE itself.
    """
    kept = {"strength": chosen.strength, "seed": chosen.seed, "base": chosen.base, "trained": chosen.trained}
    every = [Relative.model_validate({**kept, "variant": shown.variant}) for shown in Relative.variants()]
    if n > chosen.trained:
        scaled = ("interpolation", "ntk", "yarn")
        every += [Relative.model_validate({**kept, "variant": "rope", "scaling": name}) for name in scaled]
    own = [chosen if _name(scheme) == _name(chosen) else scheme for scheme in every]
    return tuple(own if any(scheme == chosen for scheme in own) else [*own, chosen])


def _name(scheme: Relative) -> tuple[str, str]:
    return scheme.variant, scheme.scaling if scheme.variant == "rope" else ""


def mapped(scheme: Mechanism, sequence: Sequence) -> RelativeMap:
    """Let a scheme read a sequence. Raises: Refused, with its sentence."""
    return cast("RelativeMap", scheme.attend(sequence))


# A moved dial changes one scheme; the curves of the others are kept.
_biases: SingleFlightCache[Floats] = SingleFlightCache(size=256)


def _bias(scheme: Relative, sequence: Sequence) -> Floats:
    return np.asarray(scheme.trace(sequence).bias[0].double().cpu().numpy())


class Curves(HeadStudy):
    """What each scheme adds to the score of a key at each distance, for one head's queries and keys.

    Table `curves`: scheme, distance (positive: the key stands before the query; negative: after), bias (in units of the
    score q·k/√d), parameters (where its numbers come from), chosen. Words: the refusal of a scheme that cannot read this.
    Cost: n·d a scheme, on the first `LONGEST` tokens.
    """

    key: ClassVar[str] = "relative.curves"
    chosen: Setting = Setting(key="relative")

    def _run(self, progress: Progress) -> Result:
        sequence = read_prefix(self.source, self.head, LONGEST)
        chosen = self.scheme()
        every = schemes(chosen, sequence.n)
        read: list[tuple[Relative, Floats]] = []
        words = {"origin": sequence.origin, "chosen": chosen.label}
        for index, scheme in enumerate(every):
            progress(index / len(every), scheme.label)
            refusal = scheme.refuses(sequence)
            if refusal is not None:
                words[f"{scheme.label} refusal"] = refusal
                continue
            name = f"{self.source.model_dump_json()} {self.head} {scheme.model_dump_json()}"
            bias = _biases.get(name, lambda scheme=scheme: _bias(scheme, sequence))  # type: ignore[misc]
            read.append((scheme, bias))
        table = _curves(read, sequence, chosen)
        table.attrs["units"] = {"distance": "tokens", "bias": "units of the score"}
        arrays = {"n": np.array(sequence.n), "of": np.array(self.sequence().n), "causal": np.array(sequence.causal)}
        return Result(study=self, arrays=arrays, tables={"curves": table}, words=words)

    def scheme(self) -> Relative:
        """The chosen scheme."""
        return cast("Relative", self.chosen.build())


def _curves(read: list[tuple[Relative, Floats]], sequence: Sequence, chosen: Relative) -> pd.DataFrame:
    """All curves in one table: made in one piece, because a table each would take longer than the curves."""
    n = sequence.n
    distance = np.arange(0 if sequence.causal else 1 - n, n)

    def each(values: list[Any]) -> np.ndarray:
        return np.repeat(np.array(values), len(distance))

    return pd.DataFrame(
        {
            "scheme": each([scheme.label for scheme, _bias in read]),
            "distance": np.tile(distance, len(read)),
            "bias": np.concatenate([bias[distance + n - 1] for _scheme, bias in read]) if read else np.zeros(0),
            "parameters": each([scheme.parameters for scheme, _bias in read]),
            "variant": each([scheme.variant for scheme, _bias in read]),
            "chosen": each([scheme == chosen for scheme, _bias in read]),
        }
    )


@dataclass(frozen=True, kw_only=True)
class CurveFinding:
    """What the chosen scheme's curve does behind the query, in units of the score.

    `near` is its mean over distances 1 … `NEAR`, `far` over the farther half of the distances, `wobble` its deviation there;
    `factor` = e^|near − far|: so many times the weight, by position alone, for whichever is higher; `reach` the farthest
    distance, `peak` the distance at which it is highest, and `top`
    how high.
    """

    kind: Shape
    scheme: str
    near: float
    far: float
    wobble: float
    factor: float
    reach: int
    peak: int
    top: float
    untrained: bool


def curve_finding(result: Result) -> CurveFinding:
    """Read a `Curves` result. A curve falls or rises when the step from near to far is twice its wobble far off."""
    table = result.tables["curves"]
    own = table[table["chosen"].astype(bool) & (table["distance"] > 0)]
    distance, bias = own["distance"].to_numpy(), own["bias"].to_numpy(dtype=np.float64)
    study = result.study
    assert isinstance(study, Curves)
    scheme = study.scheme()
    if len(bias) < 2:
        refused = f"{scheme.label} refusal" in result.words
        return CurveFinding(
            kind="refused" if refused else "alone",
            scheme=scheme.label,
            near=0.0,
            far=0.0,
            wobble=0.0,
            factor=1.0,
            reach=0,
            peak=0,
            top=0.0,
            untrained=scheme.parameters != "none",
        )
    near, rest = float(bias[distance <= NEAR].mean()), bias[distance > max(1, int(distance.max()) // 2)]
    far, wobble = float(rest.mean()), float(rest.std())
    return CurveFinding(
        kind=_shape(scheme, bias, near, far, wobble),
        scheme=scheme.label,
        near=near,
        far=far,
        wobble=wobble,
        factor=math.exp(min(abs(near - far), 700.0)),
        reach=int(distance.max()),
        peak=int(distance[bias.argmax()]),
        top=float(bias.max()),
        untrained=scheme.parameters != "none",
    )


def _shape(scheme: Relative, bias: Floats, near: float, far: float, wobble: float) -> Shape:
    # The strength and not the curve's size decides for sinusoids: their own product is not what they add.
    if scheme.variant == "sinusoidal" and scheme.strength > 0:
        return "absolute"
    if float(np.ptp(bias)) < FLAT and abs(near) < FLAT:
        return "flat"
    if near - far > 2 * wobble:
        return "falls"
    if far - near > 2 * wobble:
        return "rises"
    return "swings"


class Added(HeadStudy):
    """S_rel as a matrix: what a scheme adds to the content score of each pair of the first tokens.

    Arrays: `added`, `content` `[n n]` (units of the score, not masked); `tokens`; `diagonal`, the largest deviation of an
    entry from the mean of its diagonal: 0 where distance alone decides.
    """

    key: ClassVar[str] = "relative.added"
    chosen: Setting = Setting(key="relative")
    tokens: int = Field(256, ge=1, le=LONGEST_MATRIX)

    def _run(self, progress: Progress) -> Result:
        sequence = read_prefix(self.source, self.head, self.tokens)
        attended = mapped(self.chosen.build(), sequence)
        added = attended.added()[0]
        everything, one = torch.arange(sequence.n), torch.tensor([0])
        content = attended.encoding.content(everything, one)[0]
        lags = (everything[:, None] - everything + sequence.n - 1).flatten()
        flat = added.double().flatten()
        count = torch.zeros(2 * sequence.n - 1, dtype=torch.float64).index_add(0, lags, torch.ones_like(flat))
        mean = torch.zeros(2 * sequence.n - 1, dtype=torch.float64).index_add(0, lags, flat) / count
        arrays = {
            "added": pooled_by_size(added.float().numpy(), LONGEST_MATRIX),
            "content": pooled_by_size(content.float().numpy(), LONGEST_MATRIX),
            "diagonal": np.array(float((flat - mean[lags]).abs().max())),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "causal": np.array(sequence.causal),
        }
        return Result(study=self, arrays=arrays, words={"origin": sequence.origin})


class Distances(HeadStudy):
    """How much of a query's weight lies within each distance, under each scheme and by content alone.

    Table `within`: scheme, distance d, share of the weight at distances up to d (mean over `SAMPLE` queries of the second
    half of the text, so that all of them have room to look back); `typical`, the distance that holds half of it.
    """

    key: ClassVar[str] = "relative.distances"
    chosen: Setting = Setting(key="relative")

    def _run(self, progress: Progress) -> Result:
        sequence = read_prefix(self.source, self.head, LONGEST_MATRIX)
        chosen = cast("Relative", self.chosen.build())
        sample = sample_queries(sequence, SAMPLE)
        late = tuple(query for query in sample.queries if query >= sequence.n // 2) or sample.queries[-1:]
        sample = replace(sample, queries=late)
        content = chosen.with_dials(variant="alibi", strength=0.0)
        every: list[tuple[str, Relative]] = [("content alone", content)]
        every += [(scheme.label, scheme) for scheme in schemes(chosen, sequence.n)]
        parts, typical, words = [], [], {"origin": sequence.origin}
        for index, (name, scheme) in enumerate(every):
            progress(index / len(every), name)
            if (refusal := scheme.refuses(sequence)) is not None:
                words[f"{name} refusal"] = refusal
                continue
            attended: Attended = scheme.attend(sequence)
            share = mass_by_distance(attended, sample)[0].cumsum(0).numpy()
            variant = "" if scheme is content else scheme.variant
            parts.append(pd.DataFrame({"scheme": name, "variant": variant, "distance": np.arange(sequence.n), "share": share}))
            typical.append({"scheme": name, "half": int(np.searchsorted(share, 0.5 * share[-1]))})
        table, halves = pd.concat(parts, ignore_index=True), pd.DataFrame.from_records(typical)
        table.attrs["units"] = {"distance": "tokens", "share": "share of the weight"}
        halves.attrs["units"] = {"half": "tokens"}
        return Result(study=self, arrays={"n": np.array(sequence.n)}, tables={"within": table, "halves": halves}, words=words)


class Shifts(HeadStudy):
    """The shift test: every position of the text moved by the same number; how much does each scheme's map change?

    Table `shifts`: scheme, shift, `score` (the largest change of a score) and `moved` (the share of a row's weight that
    goes elsewhere: half the sum of absolute changes, mean over rows), in float64 on the first `tokens` tokens.
    """

    key: ClassVar[str] = "relative.shifts"
    chosen: Setting = Setting(key="relative")
    tokens: int = Field(96, ge=1, le=512)
    shifts: tuple[int, ...] = Field((0, 1, 4, 16, 64, 256, 1000, 4000), min_length=1, max_length=20)

    def _run(self, progress: Progress) -> Result:
        sequence = unturned(read_prefix(self.source, self.head, self.tokens)).to(dtype=torch.float64)
        every = schemes(cast("Relative", self.chosen.build()), sequence.n)
        mask = sequence.allowed()[None]
        records, words = [], {"origin": sequence.origin}
        for index, scheme in enumerate(every):
            progress(index / len(every), scheme.label)
            if (refusal := scheme.refuses(sequence)) is not None:
                words[f"{scheme.label} refusal"] = refusal
                continue
            here = mapped(scheme, sequence)
            added, rows = here.added(), here.rows()
            for shift in self.shifts:
                positions = sequence.token_positions + shift
                there = mapped(scheme, replace(sequence, positions=positions))
                change = (there.added() - added).abs().masked_fill(~mask, 0.0)
                records.append(
                    {
                        "scheme": scheme.label,
                        "variant": scheme.variant,
                        "shift": shift,
                        "score": float(change.max()),
                        "moved": float(0.5 * (there.rows() - rows).abs().sum(-1).mean()),
                    }
                )
        table = pd.DataFrame.from_records(records, columns=["scheme", "variant", "shift", "score", "moved"])
        table.attrs["units"] = {"shift": "tokens", "score": "units of the score", "moved": "share of the weight"}
        return Result(study=self, arrays={"n": np.array(sequence.n)}, tables={"shifts": table}, words=words)


CHANGED = 1e-6
"""A score that changes by less than this under a shift has changed by rounding."""


def changed_by_shift(result: Result) -> tuple[str, ...]:
    """The schemes whose scores changed under any shift of a `Shifts` result."""
    table = result.tables["shifts"]
    worst = table.groupby("scheme", sort=False)["score"].max()
    return tuple(str(name) for name in worst.index[worst > CHANGED])
