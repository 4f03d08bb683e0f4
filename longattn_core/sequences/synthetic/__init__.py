"""Synthetic sequences of 1 to 65,536 tokens, with dials and a seed; each kind isolates one property.

Source: ours; each kind says what holds exactly, and what on average.
"""

from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, ValidationError

from longattn_core.sequences.synthetic.base import CALIBRATION_TOKENS, Synthetic
from longattn_core.sequences.synthetic.scored import Gaussian, Identical, Needle, Sink
from longattn_core.sequences.synthetic.structured import Clustered, Hierarchical, Local, LowRank, Repeated
from longattn_core.validation import sentence

__all__ = [
    "CALIBRATION_TOKENS",
    "KINDS",
    "AnySynthetic",
    "Clustered",
    "Gaussian",
    "Hierarchical",
    "Identical",
    "Local",
    "LowRank",
    "Needle",
    "Repeated",
    "Sink",
    "Synthetic",
    "synthetic",
]

AnySynthetic = Annotated[
    Identical | Gaussian | Needle | Clustered | LowRank | Local | Hierarchical | Repeated | Sink, Field(discriminator="kind")
]

KINDS: MappingProxyType[str, type[Synthetic]] = MappingProxyType(
    {
        kind.model_fields["kind"].default: kind
        for kind in (Identical, Gaussian, Needle, Clustered, LowRank, Local, Hierarchical, Repeated, Sink)
    }
)
"""Kind → class, in the order of the menu."""


def synthetic(kind: str, /, **dials: Any) -> Synthetic:
    """Build the model of a synthetic sequence by its kind: `synthetic("needle", lead=8, n=4096).sequence()`.

    Raises: ValueError, one sentence, for an unknown kind or dial, or a value outside a dial's bounds.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no synthetic sequence {kind!r}; there are {', '.join(KINDS)}.")
    try:
        return KINDS[kind].model_validate(dials)
    except ValidationError as error:
        raise ValueError(sentence(f"Synthetic sequence {kind!r}", error, KINDS[kind])) from None
