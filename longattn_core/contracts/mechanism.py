"""What a mechanism is: a frozen model whose fields are its dials, and which attends to a sequence.

What a mechanism gives back is defined in `attended.py` and handed on from here: the file of a mechanism imports both from
this module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field

from longattn_core.contracts.attended import Attended, Cost, Explanation, ReadCount, Reason
from longattn_core.contracts.pooling import Reduce
from longattn_core.contracts.sequence import Sequence

__all__ = ["Attended", "Cost", "Explanation", "Family", "Mechanism", "Origin", "ReadCount", "Reason", "Reduce", "Refused", "dial"]

Scale: TypeAlias = Literal["linear", "log2", "log10"]
"""How the values of a dial are spaced."""

Origin: TypeAlias = Literal["none", "random draw", "fitted here", "learned in the paper, untrained here"]
"""Where a mechanism's parameters come from: the badge beside its name."""

Family: TypeAlias = Literal["reference", "by place", "by content", "compressed", "changes the score"]
"""What a mechanism approximates by; a family has one colour in all pictures."""


class Refused(ValueError):  # noqa: N818  (it is an answer, not a fault)
    """A mechanism cannot read this sequence; the message is the sentence that a person reads."""


def dial(
    default: Any,
    *,
    title: str,
    symbol: str = "",
    help: str = "",
    ge: float | None = None,
    le: float | None = None,
    scale: Scale = "linear",
    options: Mapping[str, str] | None = None,
    when: Mapping[str, tuple[Any, ...]] | None = None,
) -> Any:
    """Declare a dial: a field with inclusive bounds, a scale, a help text and its symbol in the formula.

    `options` gives each value of a choice its label. `when` names the values of other dials for which this dial has a
    meaning, such as `when={"variant": ("svd", "nystrom")}`; for all others the app hides it.
    """
    extra: dict[str, Any] = {"symbol": symbol, "scale": scale}
    if options is not None:
        extra["options"] = dict(options)
    if when is not None:
        extra["when"] = {name: list(values) for name, values in when.items()}
    return Field(default, title=title, description=help, ge=ge, le=le, json_schema_extra=extra)


class Mechanism(BaseModel, ABC):
    """One way to attend. Its fields are its dials; it is frozen, and it refuses unknown dials.

    A class states `key`, `title`, `idea` (one sentence), `paper` (author, year, arXiv), `complexity` (of the output), `family`
    and `order`. Facts that depend on the dials are properties, such as `label`, `not_stochastic` and `differentiable`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    key: ClassVar[str]
    title: ClassVar[str]
    idea: ClassVar[str]
    paper: ClassVar[str]
    complexity: ClassVar[str]
    family: ClassVar[Family]
    order: ClassVar[int]
    """Place among all mechanisms wherever they are listed."""
    causal_note: ClassVar[str] = ""
    """How a causal output is kept independent of later tokens, and which mode is not, where this needs an explanation."""
    quadratic: ClassVar[bool] = False
    """True when the output costs n² for all dials: the mechanism is not run on long sequences."""
    approximates: ClassVar[bool] = True
    """False for a mechanism that computes another score on purpose: the fidelity chart leaves it out."""

    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Chooses the random draw.")

    @abstractmethod
    def _attend(self, sequence: Sequence) -> Attended:
        """Compute the output by the mechanism's own algorithm; `refuses` has accepted the sequence."""

    def attend(self, sequence: Sequence) -> Attended:
        """Attend to a sequence. Raises: Refused, with the sentence of `refuses`, when this setting cannot read it."""
        if (sentence := self.refuses(sequence)) is not None:
            raise Refused(sentence)
        return self._attend(sequence)

    def refuses(self, sequence: Sequence) -> str | None:
        """Why this setting cannot read this sequence, in one sentence; None when it can."""
        return None

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """What attending to a sequence of this shape costs, by a formula that does not read its contents.

        Where the cost depends on the contents, buckets or clusters count as evenly filled. A mechanism without a formula of
        its own attends, and returns the cost that it counted.
        """
        return self.attend(sequence).cost

    def exact_setting(self, n: int) -> Self | None:
        """The setting of this variant that equals exact attention on n tokens; None if there is none (`no_exact_setting`)."""
        return None

    @property
    def no_exact_setting(self) -> str | None:
        """Why this variant has no setting that equals exact attention; None when it has one."""
        return None

    @property
    def exact_tolerance(self) -> float:
        """How far `exact_setting` may differ from exact attention in float64; overridden where the arithmetic loses digits."""
        return 1e-10

    @abstractmethod
    def ladder(self, n: int) -> tuple[Self, ...]:
        """Some settings of this variant for n tokens, from cheap to exact; at least one."""

    @abstractmethod
    def with_budget(self, keys: int, n: int) -> Self:
        """The setting of this variant in which a query reads about `keys` of n keys (or that many features)."""

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """One setting for each kind of this mechanism, with all other dials at their defaults: the values of `variant`."""
        if "variant" not in cls.model_fields:
            return (cls(),)
        return tuple(cls.model_validate({"variant": value}) for value in get_args(cls.model_fields["variant"].annotation))

    @classmethod
    def showcase(cls) -> tuple[Self, ...]:
        """The variants that are shown beside the other mechanisms; by default the default setting alone."""
        return (cls(),)

    @property
    def cubic(self) -> bool:
        """True where this variant's output costs n³: it is not run on more than about a thousand tokens."""
        return False

    @property
    def label(self) -> str:
        """The title with the variant, short enough for a chart."""
        return self.title

    @property
    def parameters(self) -> Origin:
        """Where this variant's parameters come from."""
        return "none"

    @property
    def not_stochastic(self) -> str | None:
        """None when every row is non-negative and sums to 1; else why the rows of this variant are not."""
        return None

    @property
    def differentiable(self) -> bool:
        """Whether gradients of the output reach q, k and v in this variant."""
        return True

    @property
    def depends_on_future(self) -> str | None:
        """None when no causal output depends on a later token; else the sentence that says how this setting leaks."""
        return None

    def with_dials(self, **dials: Any) -> Self:
        """The same mechanism with some dials changed, validated again."""
        return type(self).model_validate({**self.model_dump(), **dials})
