"""What a picture shows, as one value: the browser component and the exported chart draw the same value."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from longattn_core.charts.cells import Reduce, RibbonRow, Window
from longattn_core.charts.style.scales import Kind, Scale


@dataclass(frozen=True, kw_only=True)
class MapPicture:
    """An attention map `[cells, cells]` of weights, or of signed differences; NaN is "never looked at".

    `window` says which queries and keys the cells cover (the whole map if None). `full` is the size of the whole map in queries
    and keys. A cell is one pair, or several pairs pooled by `reduce`, as `Attended.pooled` or `pool_cells` pool them. `top` is
    the value at the far end of the colour scale. `causal` hatches the future. `tokens_rows` and `tokens_cols` name every
    position of the full map.

    Raises:
        ValueError: the map has no two axes or no cell, or `reduce` is unknown.
    """

    values: npt.ArrayLike
    title: str = ""
    subtitle: str = ""
    full: tuple[int, int] | None = None
    window: Window | None = None
    reduce: Reduce = "max"
    scale: Kind = "log"
    top: float = 1.0
    causal: bool = False
    tokens_rows: Sequence[str] | None = None
    tokens_cols: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no map."""
        shape = np.shape(self.values)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"a map needs two axes and at least one cell, found shape {list(shape)}")
        if self.reduce not in ("mean", "max"):
            raise ValueError(f"reduce must be 'mean' or 'max', found {self.reduce!r}")

    @property
    def measure(self) -> Scale:
        """The colour scale with its far end."""
        return Scale(kind=self.scale, top=self.top)


@dataclass(frozen=True, kw_only=True)
class RibbonsPicture:
    """A ribbon for each row over one axis of tokens: `query` looks back, the token `marked` is marked.

    Tokens after the query are hatched when `causal`.
    """

    rows: Sequence[RibbonRow]
    tokens: Sequence[str]
    query: int
    marked: int | None = None
    causal: bool = True


@dataclass(frozen=True, kw_only=True)
class StripsPicture:
    """One round of hashing, with one pair of query and key followed through it.

    `buckets`, `found` and `exact` `[n]` are by token; `order` `[n]` are the tokens sorted by bucket. `place` is where the query
    falls among the sorted tokens, `stretches` `[m, 2]` are the (start, stop) of what it looks at there. `marked` is the key.
    """

    tokens: Sequence[str]
    buckets: npt.NDArray[np.integer]
    order: npt.NDArray[np.integer]
    found: npt.NDArray[np.integer]
    exact: npt.NDArray[np.floating]
    query: int
    marked: int
    query_bucket: int
    place: int
    stretches: npt.NDArray[np.integer]
    causal: bool
