"""The words of the laboratory: what a mechanism reads, what it is, and what it gives back.

Dimensions, everywhere: `h` heads, `n` tokens, `d` width of a query or key, `e` width of a value,
`m` features, `r` chosen queries, `c` chosen keys, `g` chosen heads. This file imports nothing else of ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS, Index, bands, edges, resolve
from longattn_core.contracts.sequence import Sequence, exact_rows

Reduce: TypeAlias = Literal["mean", "max"]
"""How a pooled map joins the weights of one cell."""


BAND_CELLS = 1 << 24
"""How many weights lie between two words of progress: a quarter of a second of exact attention."""


class Refused(ValueError):  # noqa: N818  (it is an answer, not a fault)
    """A mechanism cannot read this sequence; the message is the sentence that a person reads."""


# ------------------------------------------------------------------------------------------------ what is read


# ---------------------------------------------------------------------------------------------- what is given back


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the output cost on this input, counted by formula: not timed, not guessed.

    `multiply_adds` counts one multiplication with its addition; `bytes_moved` what is read and written once per
    pass of the algorithm; `bytes_peak` the most that is held at once above inputs and output.
    """

    multiply_adds: int
    bytes_moved: int
    bytes_peak: int

    def __add__(self, other: Cost) -> Cost:
        """The cost of one after the other."""
        return Cost(
            multiply_adds=self.multiply_adds + other.multiply_adds,
            bytes_moved=self.bytes_moved + other.bytes_moved,
            bytes_peak=max(self.bytes_peak, other.bytes_peak),
        )


class Reason(StrEnum):
    """Why a pair has the weight it has, for reasons that every mechanism shares; a mechanism adds its own enum."""

    PADDING = "padding"
    FUTURE = "future"
    ITSELF = "itself"
    """The query found no key at all and attends to itself."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One pair explained: was it looked at, what does exact attention give it, what does this mechanism, and why.

    `reason` is a member of the mechanism's own enum or of `Reason`; `facts` are the numbers behind the sentence;
    `text` is one plain sentence.
    """

    kept: bool
    exact: float
    weight: float
    reason: StrEnum
    facts: Mapping[str, float | int | str | bool]
    text: str


@dataclass(frozen=True, kw_only=True)
class ReadCount:
    """How much one query looked at: a count and what is counted ("keys", "features", "keys and summaries", …)."""

    count: int
    unit: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Attended(ABC):
    """What a mechanism gives back: its output, and views of the map that the output implies.

    `output [h n e]`; `trace` is the mechanism's own frozen dataclass with every random draw and intermediate that a
    picture needs; `offset [h n e]` is what is added to `rows @ v` (zero but for value embeddings).
    By definition `rows(all) @ v + offset == output`. Views are computed when asked for and never hold n × n.
    Subclasses give `_rows` and `_explained`; they override `_kept`, `_pooled` and `_read_count` where structure helps.
    """

    mechanism: Mechanism
    sequence: Sequence
    output: Float[Tensor, "h n e"]
    trace: Any
    cost: Cost
    offset: Float[Tensor, "h n e"] | None = field(default=None)

    @abstractmethod
    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """The implied weights of the chosen queries over all keys; zero for a padded query."""

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        """Which keys were looked at; a mechanism that sees all that the mask allows leaves this as it is."""
        return self.sequence.allowed(queries).expand(len(heads), -1, -1)

    def _rows_and_kept(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        """Both; a map with listed keys finds the list once. A subclass that overrides `_rows` or `_kept` overrides this too."""
        return self._rows(queries, heads), self._kept(queries, heads)

    @abstractmethod
    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        """The sentence for a pair that the mask allows and where neither token is padding."""

    def _read_count(self, head: int, query: int) -> ReadCount:
        one = torch.tensor([query], device=self.output.device)
        count = self._kept(one, torch.tensor([head], device=self.output.device)).sum()
        return ReadCount(count=int(count), unit="keys")

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Stream the rows of the window; `rows` and `columns` are the cells' edges, one more than there are cells."""
        device, dtype = self.output.device, self.output.dtype
        height, width = len(rows) - 1, len(columns) - 1
        cell_of_column = torch.bucketize(
            torch.arange(columns[0], columns[-1], device=device), torch.tensor(columns[1:-1], device=device), right=True
        )
        operation: Literal["sum", "amax"] = "sum" if reduce == "mean" else "amax"
        fill = 0.0 if reduce == "mean" else -math.inf
        out = torch.full((len(heads), height, width), fill, device=device, dtype=dtype)
        cell_of_row = torch.bucketize(
            torch.arange(rows[0], rows[-1], device=device), torch.tensor(rows[1:-1], device=device), right=True
        )
        step = max(1, STREAM_CELLS // (len(heads) * self.sequence.n))
        for start in range(rows[0], rows[-1], step):
            stop = min(start + step, rows[-1])
            part = self._rows(torch.arange(start, stop, device=device), heads)[..., columns[0] : columns[-1]]
            cells = torch.full((len(heads), stop - start, width), fill, device=device, dtype=dtype)
            cells.scatter_reduce_(2, cell_of_column.expand_as(part), part, operation)
            index = cell_of_row[start - rows[0] : stop - rows[0], None].expand_as(cells)
            out.scatter_reduce_(1, index, cells, operation)
        if reduce == "mean":
            tall, wide = torch.tensor(rows, device=device).diff(), torch.tensor(columns, device=device).diff()
            out /= (tall[:, None] * wide[None, :]).to(dtype)
        return out

    def rows(self, queries: Index = None, keys: Index = None, heads: Index = None) -> Float[Tensor, "g r c"]:
        """The implied weights `[heads, queries, keys]`. Cost: at most r·n·(d + e) per head; memory r·n."""
        weights = self._of_some(self._rows, queries, heads, self.output.dtype)
        return weights if keys is None else weights[..., resolve(keys, self.sequence.n, "keys", weights.device)]

    def kept(self, queries: Index = None, keys: Index = None, heads: Index = None) -> Bool[Tensor, "g r c"]:
        """Which pairs the mechanism keeps, `[heads, queries, keys]`: a pair that it computes and gives no weight is kept too."""
        looked = self._of_some(self._kept, queries, heads, torch.bool)
        return looked if keys is None else looked[..., resolve(keys, self.sequence.n, "keys", looked.device)]

    def rows_and_kept(self, queries: Index = None, heads: Index = None) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        """`rows` and `kept` of the same queries, over all keys."""
        chosen = self._indices(queries, heads)
        if not len(chosen[0]):
            return self.rows(queries, heads=heads), self.kept(queries, heads=heads)
        return self._rows_and_kept(*chosen)

    def _of_some(
        self, view: Callable[[Tensor, Tensor], Tensor], queries: Index, heads: Index, dtype: torch.dtype
    ) -> Shaped[Tensor, "g r n"]:
        """A view of the chosen queries and heads; of no queries it is empty, which no view need know."""
        rows, chosen = self._indices(queries, heads)
        if not len(rows):
            return torch.zeros(len(chosen), 0, self.sequence.n, dtype=dtype, device=self.output.device)
        return view(rows, chosen)

    def pooled(
        self,
        queries: tuple[int, int] | None = None,
        keys: tuple[int, int] | None = None,
        shape: tuple[int, int] = (512, 512),
        reduce: Reduce = "mean",
        heads: Index = None,
    ) -> Float[Tensor, "g H W"]:
        """The map of a window [start, stop) of queries and keys in at most `shape` cells, each the mean or the largest.

        Cell edges are those of `edges(start, stop, cells)`. Cost: the structure's where it has one, else it streams rows.
        """
        n = self.sequence.n
        spans = []
        for name, window, cells in (("queries", queries, shape[0]), ("keys", keys, shape[1])):
            start, stop = (0, n) if window is None else window
            if not 0 <= start < stop <= n:
                raise ValueError(f"the window of {name} must lie within 0 … {n} and hold a token, found {start} … {stop}")
            if cells < 1:
                raise ValueError(f"a pooled map needs at least one cell along {name}, found {cells}")
            spans.append(edges(start, stop, cells))
        if reduce not in get_args(Reduce):
            raise ValueError(f"reduce must be 'mean' or 'max', found {reduce!r}")
        return self._pooled(spans[0], spans[1], reduce, resolve(heads, self.sequence.h, "heads", self.output.device))

    @property
    def lists_keys(self) -> bool:
        """Whether the largest weights of a map are found without all n of a row: else `pooled` streams rows for them."""
        return False

    def pooled_bands(
        self, queries: tuple[int, int], keys: tuple[int, int], shape: tuple[int, int], reduce: Reduce, head: int
    ) -> Iterator[tuple[float, Float[Tensor, "H W"]]]:
        """`pooled` of one head in bands of rows from the top, each with the share of the window that is done by then.

        For maps that stream rows: whoever waits can be told how far it is, and can call it off. Cost: that of `pooled`.
        """
        tops, sides = edges(*queries, shape[0]), edges(*keys, shape[1])
        one = resolve(head, self.sequence.h, "heads", self.output.device)
        for begin, end in bands(tops, max(1, BAND_CELLS // self.sequence.n)):
            share = (tops[end] - tops[0]) / (tops[-1] - tops[0])
            yield share, self._pooled(tops[begin : end + 1], sides, reduce, one)[0]

    def read_count(self, head: int, query: int) -> ReadCount:
        """How many keys (or features, or summaries) this query looked at: the real count, not the dial."""
        _inside(head, self.sequence.h, "head")
        _inside(query, self.sequence.n, "query")
        return self._read_count(head, query)

    def explain(self, head: int, query: int, key: int) -> Explanation:
        """Why this mechanism does or does not see `key` from `query`. Cost: two rows.

        Raises: ValueError when head, query or key lies outside the sequence.
        """
        for name, value, size in (
            ("head", head, self.sequence.h),
            ("query", query, self.sequence.n),
            ("key", key, self.sequence.n),
        ):
            _inside(value, size, name)
        sequence = self.sequence
        exact = float(exact_rows(sequence, query, head)[0, 0, key])
        weight = float(self.rows(query, key, head))
        if not (sequence.real[query] and sequence.real[key]):
            which = "query" if not sequence.real[query] else "key"
            return Explanation(
                kept=False,
                exact=exact,
                weight=weight,
                reason=Reason.PADDING,
                facts={"padded": which},
                text=f"The {which} is padding: it is no token of the text and takes no part.",
            )
        kept = bool(self.kept(query, key, head))
        if sequence.causal and key > query and not kept:
            return Explanation(
                kept=False,
                exact=exact,
                weight=weight,
                reason=Reason.FUTURE,
                facts={"ahead": key - query},
                text=f"The key lies {key - query} tokens ahead, and the mask hides the future.",
            )
        return self._explained(head, query, key, kept, exact, weight)

    def _indices(self, queries: Index, heads: Index) -> tuple[Int[Tensor, "r"], Int[Tensor, "g"]]:
        device = self.output.device
        return (resolve(queries, self.sequence.n, "queries", device), resolve(heads, self.sequence.h, "heads", device))


# ------------------------------------------------------------------------------------------------ what a mechanism is


Scale: TypeAlias = Literal["linear", "log2", "log10"]
Origin: TypeAlias = Literal["none", "random draw", "fitted here", "learned in the paper, untrained here"]
"""Where a mechanism's parameters come from: the badge beside its name."""

Family: TypeAlias = Literal["reference", "by place", "by content", "compressed", "changes the score"]


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
    """Declare a dial: a field with bounds, a scale, a help text and its symbol in the formula.

    `options` gives each value of a choice its label; `when` names the values of other dials at which this one matters
    (the app hides it otherwise): `when={"variant": ("svd", "nystrom")}`.
    """
    extra: dict[str, Any] = {"symbol": symbol, "scale": scale}
    if options is not None:
        extra["options"] = dict(options)
    if when is not None:
        extra["when"] = {name: list(values) for name, values in when.items()}
    return Field(default, title=title, description=help, ge=ge, le=le, json_schema_extra=extra)


class Mechanism(BaseModel, ABC):
    """One way to attend. Its fields are its dials; it is frozen, and it refuses unknown dials.

    Class facts: `key`, `title`, `idea` (one sentence), `paper` (author, year, arXiv), `complexity` (of the output),
    `family` (its colour), `differentiable` (gradients reach q, k and v), `causal_note` (how it keeps from
    seeing the future, and what its leaking mode is, if it has one), `not_stochastic` (None, or why its rows are not shares).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    key: ClassVar[str]
    title: ClassVar[str]
    idea: ClassVar[str]
    paper: ClassVar[str]
    complexity: ClassVar[str]
    family: ClassVar[Family]
    order: ClassVar[int]
    """Where it stands when mechanisms are listed side by side."""
    causal_note: ClassVar[str] = ""
    """How it keeps from seeing the future, where that needs saying."""
    quadratic: ClassVar[bool] = False
    """True when the output costs n² whatever the dials: no long sequence is asked of it."""
    approximates: ClassVar[bool] = True
    """False for a mechanism that computes another score on purpose: it is no point of the fidelity chart."""

    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Chooses the random draw.")

    @abstractmethod
    def _attend(self, sequence: Sequence) -> Attended:
        """Compute the output by the mechanism's own algorithm; the sequence has not been refused."""

    def attend(self, sequence: Sequence) -> Attended:
        """Read a sequence. Raises: Refused, with the sentence of `refuses`, when this setting cannot read it."""
        if (sentence := self.refuses(sequence)) is not None:
            raise Refused(sentence)
        return self._attend(sequence)

    def refuses(self, sequence: Sequence) -> str | None:
        """The sentence why this setting cannot read this sequence, or None."""
        return None

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """What reading a sequence of this shape costs, by formula and without reading it; contents are not looked at.

        Where the cost hangs on the contents it is that of evenly filled buckets or clusters. A mechanism that brings no
        formula of its own attends, and gives what it counted.
        """
        return self.attend(sequence).cost

    def exact_setting(self, n: int) -> Self | None:
        """The setting of this variant that equals exact attention on n tokens, or None (see `no_exact_setting`)."""
        return None

    @property
    def no_exact_setting(self) -> str | None:
        """Why this variant has no setting that equals exact attention; None when it has one."""
        return None

    @abstractmethod
    def ladder(self, n: int) -> tuple[Self, ...]:
        """A handful of settings of this variant from cheap to exact, for n tokens; at least one."""

    @abstractmethod
    def with_budget(self, keys: int, n: int) -> Self:
        """The setting of this variant at which a query looks at about `keys` keys (or features) of n."""

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """One setting, otherwise default, for each kind of this mechanism: by default each value of `variant`."""
        if "variant" not in cls.model_fields:
            return (cls(),)
        return tuple(cls.model_validate({"variant": value}) for value in get_args(cls.model_fields["variant"].annotation))

    @classmethod
    def showcase(cls) -> tuple[Self, ...]:
        """The variants that stand beside the other mechanisms in one picture: the default one, if nothing else is said."""
        return (cls(),)

    @property
    def cubic(self) -> bool:
        """True where this variant's output costs n³: no sequence of more than about a thousand tokens is asked of it."""
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
        """None when every row is non-negative and sums to 1; else why this variant's are not."""
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


# --------------------------------------------------------------------------------------------------- shared arithmetic


def _inside(value: int, size: int, name: str) -> None:
    if not 0 <= value < size:
        raise ValueError(f"{name} must lie in 0 … {size - 1}, found {value}")
