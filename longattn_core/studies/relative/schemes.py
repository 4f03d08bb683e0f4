"""The positional schemes that a study sets side by side, the sequence that they read, and the study that has one chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.relative import Relative
from longattn_core.mechanisms.relative.map import RelativeMap
from longattn_core.numerics.rotary import unrotate
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.study import Setting

LONGEST = 1024
"""Every scheme computes n² scores here: a longer sequence is cut to its first tokens."""
LONGEST_MATRIX = 512


class SchemeStudy(HeadStudy):
    """A study of the chosen positional scheme beside the others, on one head of the source."""

    chosen: Setting = Setting(key="relative")

    def scheme(self) -> Relative:
        """The chosen scheme. Raises: ValueError when the setting is of another mechanism."""
        return self.chosen.build_as(Relative)


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
