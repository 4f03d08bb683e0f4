"""What distance adds to a score: every scheme's curve for one head, S_rel as a matrix, and where the weight then goes.

Source: the papers named in `mechanisms.relative`. The curves are those of a scheme's trace: what a distance adds to every
score (ALiBi, T5), to the mean query's (Shaw, Music Transformer, Transformer-XL), or to that of the mean query with the
mean key (RoPE); of sinusoids only the product of the two position vectors, all of it that depends on distance alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.relative import Relative
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.relative.schemes import LONGEST, SchemeStudy, schemes

FLAT = 1e-6
"""A curve that moves less than this does not move."""
NEAR = 8
"""Up to this distance a key is a neighbour."""

Floats = npt.NDArray[np.float64]
Shape = Literal["flat", "falls", "rises", "swings", "absolute", "alone", "refused"]

# A moved dial changes one scheme; the curves of the others are kept.
_biases: SingleFlightCache[Floats] = SingleFlightCache(size=256)


def _bias(scheme: Relative, sequence: Sequence) -> Floats:
    return np.asarray(scheme.trace(sequence).bias[0].double().cpu().numpy())


class Curves(SchemeStudy):
    """What each scheme adds to the score of a key at each distance, for one head's queries and keys.

    Table `curves`: scheme, distance (positive: the key stands before the query; negative: after), bias (in units of the
    score q·k/√d), parameters (where its numbers come from), chosen. Words: the refusal of a scheme that cannot read this.
    Cost: n·d a scheme, on the first `LONGEST` tokens.
    """

    key: ClassVar[str] = "relative.curves"

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
    study = result.study_as(Curves)
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
