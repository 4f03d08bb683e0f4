"""What every mechanism reads: the queries, keys and values of some heads; and the rows of exact attention on them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.selection import Index, resolve


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
    """The sentence and the paragraph of each token, counted from 0.

    `sentence` and `paragraph` are non-decreasing integers `[n]`; each sentence lies in one paragraph.
    """

    sentence: Int[Tensor, "n"]
    paragraph: Int[Tensor, "n"]

    def __post_init__(self) -> None:
        for name in ("sentence", "paragraph"):
            groups = getattr(self, name)
            if groups.ndim != 1 or groups.dtype != torch.int64:
                raise ValueError(f"levels.{name} must be a 1-d int64 tensor, found {groups.dtype} {_shape(groups)}")
            if len(groups) and (int(groups[0]) != 0 or bool((groups.diff() < 0).any())):
                raise ValueError(f"levels.{name} must start at 0 and never fall")
        if len(self.sentence) != len(self.paragraph):
            raise ValueError(f"levels: {len(self.sentence)} sentence numbers, {len(self.paragraph)} paragraph numbers")
        same_sentence = self.sentence.diff() == 0
        if bool((self.paragraph.diff()[same_sentence] != 0).any()):
            raise ValueError("levels: one sentence lies in two paragraphs")

    def prefix(self, n: int) -> Levels:
        """The levels of the first n tokens."""
        return Levels(sentence=self.sentence[:n], paragraph=self.paragraph[:n])


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequence:
    """Queries, keys and values of some heads, with all that a mechanism may need to know about them.

    - `q, k [h n d]`, `v [h n e]`: grouped keys and values come repeated; `key_value_groups` query heads share one of them.
    - `padding [n]`: True for a real token; None: all are real. `positions [n]`: the position of each token.
    - `rotary [d/2]`: the frequencies by which q and k have been rotated; None: not rotated.
    - `heads`: the heads' numbers among the `total_heads` of their layer.
    - `tokens`, `offsets`, `levels`: each token's text, its characters (start, end), its sentence and its paragraph.
    - `sharpness`: the factor by which the scores have been multiplied.
    - `calibration`: another sequence of the same heads. What is fitted or centred on it knows nothing of this one's future.
    - `origin`: where the sequence comes from, in words.

    Raises: ValueError, one sentence, for a wrong shape, dtype or device, or for a value that is not finite.
    """

    q: Float[Tensor, "h n d"]
    k: Float[Tensor, "h n d"]
    v: Float[Tensor, "h n e"]
    causal: bool = False
    padding: Bool[Tensor, "n"] | None = None
    positions: Int[Tensor, "n"] | None = None
    rotary: Float[Tensor, "half"] | None = None
    heads: tuple[int, ...] | None = None
    total_heads: int | None = None
    key_value_groups: int = 1
    tokens: tuple[str, ...] | None = None
    offsets: tuple[tuple[int, int], ...] | None = None
    levels: Levels | None = None
    sharpness: float = 1.0
    calibration: Sequence | None = None
    origin: str = "given tensors"

    def __post_init__(self) -> None:
        self._check_tensors()
        n, d = self.n, self.d
        if self.positions is None:
            object.__setattr__(self, "positions", torch.arange(n, device=self.q.device))
        if self.heads is None:
            object.__setattr__(self, "heads", tuple(range(self.h)))
        if self.total_heads is None:
            object.__setattr__(self, "total_heads", max((*self.head_numbers, self.h - 1)) + 1)
        self._check_facts(n, d)

    def _check_tensors(self) -> None:
        for name in ("q", "k", "v"):
            x = getattr(self, name)
            if not isinstance(x, Tensor):
                raise ValueError(f"{name} must be a torch tensor, found {type(x).__name__}")
            if x.ndim != 3:
                raise ValueError(f"{name} must have three axes [heads, tokens, width], found shape {_shape(x)}")
            if x.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"{name} must be float32 or float64, found {x.dtype}")
            if 0 in x.shape:
                raise ValueError(f"{name} is empty: shape {_shape(x)}; at least one head, one token and one channel")
        q, k, v = self.q, self.k, self.v
        if q.shape != k.shape:
            raise ValueError(f"q and k must have one shape, found {_shape(q)} and {_shape(k)}")
        if v.shape[:2] != q.shape[:2]:
            raise ValueError(f"v must have the heads and tokens of q, {_shape(q)[:2]}, found {_shape(v)}")
        if len({q.dtype, k.dtype, v.dtype}) > 1 or len({q.device, k.device, v.device}) > 1:
            raise ValueError(
                f"q, k and v must share dtype and device, found {q.dtype}/{q.device}, {k.dtype}/{k.device}, {v.dtype}/{v.device}"
            )
        for name, x in (("q", q), ("k", k), ("v", v)):
            if not _finite(x):
                raise ValueError(f"{name} holds {int((~torch.isfinite(x)).sum())} values that are infinite or not numbers")

    def _check_facts(self, n: int, d: int) -> None:
        if self.padding is not None:
            if self.padding.shape != (n,) or self.padding.dtype != torch.bool:
                raise ValueError(f"padding must be a bool tensor [{n}], found {self.padding.dtype} {_shape(self.padding)}")
            if not bool(self.padding.any()):
                raise ValueError("padding marks every token as padding; at least one must be real")
        if self.token_positions.shape != (n,) or self.token_positions.dtype != torch.int64:
            raise ValueError(f"positions must be an int64 tensor [{n}], found {_shape(self.token_positions)}")
        if self.rotary is not None and self.rotary.shape != (d // 2,):
            raise ValueError(f"rotary must hold d/2 = {d // 2} frequencies, found {_shape(self.rotary)}")
        if len(self.head_numbers) != self.h:
            raise ValueError(f"heads must name {self.h} heads, found {len(self.head_numbers)}")
        if any(not 0 <= head < self.head_count for head in self.head_numbers):
            raise ValueError(f"heads must lie in 0 … {self.head_count - 1}, found {self.head_numbers}")
        for name in ("tokens", "offsets"):
            if (given := getattr(self, name)) is not None and len(given) != n:
                raise ValueError(f"{name} must have one entry a token, {n}, found {len(given)}")
        if self.levels is not None and len(self.levels.sentence) != n:
            raise ValueError(f"levels must have one entry a token, {n}, found {len(self.levels.sentence)}")
        if not (math.isfinite(self.sharpness) and self.sharpness > 0):
            raise ValueError(f"sharpness must be a positive number, found {self.sharpness}")
        if self.calibration is not None and self.calibration.q.shape[::2] != self.q.shape[::2]:
            raise ValueError(
                f"calibration must have the heads and width of q, {_shape(self.q)[::2]}, found {_shape(self.calibration.q)[::2]}"
            )

    @property
    def h(self) -> int:
        """Number of heads."""
        return self.q.shape[0]

    @property
    def n(self) -> int:
        """Number of tokens, padding included."""
        return self.q.shape[1]

    @property
    def d(self) -> int:
        """Width of a query or key."""
        return self.q.shape[2]

    @property
    def e(self) -> int:
        """Width of a value."""
        return self.v.shape[2]

    @property
    def head_numbers(self) -> tuple[int, ...]:
        """The heads' numbers in their layer."""
        assert self.heads is not None
        return self.heads

    @property
    def head_count(self) -> int:
        """How many heads the layer has."""
        assert self.total_heads is not None
        return self.total_heads

    @property
    def token_positions(self) -> Int[Tensor, "n"]:
        """The position of each token."""
        assert self.positions is not None
        return self.positions

    @property
    def real(self) -> Bool[Tensor, "n"]:
        """True for a real token, False for padding."""
        if self.padding is None:
            return torch.ones(self.n, dtype=torch.bool, device=self.q.device)
        return self.padding

    def allowed(self, queries: Index = None) -> Bool[Tensor, "r n"]:
        """The keys that the mask allows each chosen query to attend to; none for a padded query. Cost r·n."""
        rows = resolve(queries, self.n, "queries", self.q.device)
        mask = self.real[rows, None] & self.real[None, :]
        if self.causal:
            mask = mask & (torch.arange(self.n, device=rows.device)[None, :] <= rows[:, None])
        return mask

    def sharpened(self, sharpness: float) -> Sequence:
        """The same sequence with its scores multiplied by `sharpness`: q and k each times its square root."""
        if not (math.isfinite(sharpness) and sharpness > 0):
            raise ValueError(f"sharpness must be a positive number, found {sharpness}")
        root = math.sqrt(sharpness)
        calibration = None if self.calibration is None else self.calibration.sharpened(sharpness)
        return replace(self, q=self.q * root, k=self.k * root, sharpness=self.sharpness * sharpness, calibration=calibration)

    def masked(self, causal: bool) -> Sequence:
        """The same sequence under a causal mask, or under none."""
        return self if causal == self.causal else replace(self, causal=causal)

    def select_heads(self, heads: Index) -> Sequence:
        """The same sequence with only the chosen heads (counted within this sequence)."""
        chosen = resolve(heads, self.h, "heads", self.q.device)
        calibration = None if self.calibration is None else self.calibration.select_heads(heads)
        numbers = tuple(self.head_numbers[i] for i in chosen.tolist())
        return replace(self, q=self.q[chosen], k=self.k[chosen], v=self.v[chosen], heads=numbers, calibration=calibration)

    def prefix(self, n: int) -> Sequence:
        """The first n tokens of the sequence."""
        if not 1 <= n <= self.n:
            raise ValueError(f"a prefix of 1 … {self.n} tokens can be taken, found {n}")
        return replace(
            self,
            q=self.q[:, :n],
            k=self.k[:, :n],
            v=self.v[:, :n],
            padding=None if self.padding is None else self.padding[:n],
            positions=self.token_positions[:n],
            tokens=None if self.tokens is None else self.tokens[:n],
            offsets=None if self.offsets is None else self.offsets[:n],
            levels=None if self.levels is None else self.levels.prefix(n),
        )

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Sequence:
        """The same sequence in another dtype (float32 or float64) or on another device."""

        def moved(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

        levels = self.levels
        if levels is not None:
            levels = Levels(sentence=moved(levels.sentence), paragraph=moved(levels.paragraph))
        return replace(
            self,
            q=moved(self.q),
            k=moved(self.k),
            v=moved(self.v),
            padding=None if self.padding is None else moved(self.padding),
            positions=moved(self.token_positions),
            rotary=None if self.rotary is None else moved(self.rotary),
            levels=levels,
            calibration=None if self.calibration is None else self.calibration.to(dtype=dtype, device=device),
        )


def exact_rows(sequence: Sequence, queries: Index = None, heads: Index = None) -> Float[Tensor, "g r n"]:
    """Rows of exact attention, softmax(q kᵀ/√d) under the mask; zero for a padded query. Cost g·r·n·d; memory g·r·n."""
    rows = resolve(queries, sequence.n, "queries", sequence.q.device)
    chosen = resolve(heads, sequence.h, "heads", sequence.q.device)
    scores = sequence.q[chosen][:, rows] @ sequence.k[chosen].mT / math.sqrt(sequence.d)
    mask = sequence.allowed(rows)
    weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
    return torch.where(mask.any(-1)[:, None], weights, torch.zeros_like(weights))


def _finite(x: Tensor) -> bool:
    """Whether all values are finite. Along an expanded axis (stride 0) one place is checked for all."""
    distinct = tuple(slice(1) if step == 0 else slice(None) for step in x.stride())
    return bool(torch.isfinite(x[distinct]).all())


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)
