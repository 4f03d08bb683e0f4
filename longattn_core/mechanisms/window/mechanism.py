"""Sliding window: a query sees the tokens near it, and beside them sinks, global tokens, random or chosen blocks.

Source: Beltagy et al. 2020, Longformer, arXiv:2004.05150, section 3.1; Zaheer et al. 2020, BigBird, arXiv:2007.14062,
section 2; Xiao et al. 2023, StreamingLLM, arXiv:2309.17453, section 3.2; Lu et al. 2025, MoBA, arXiv:2502.13189,
section 2.2; Yuan et al. 2025, NSA, arXiv:2502.11089. Deviations: the window counts tokens, not blocks (BigBird);
global tokens use the same projections as all others (Longformer has a second set); sinks keep their positions
(StreamingLLM renumbers them inside its cache); the query's own block does not count among the chosen ones (MoBA), and
window and chosen blocks share one softmax (NSA joins three by gates).
"""

from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.window.blockwise import pairs_seen, pattern_output, peak_cells
from longattn_core.mechanisms.window.map import WindowMap, WindowTrace
from longattn_core.mechanisms.window.pattern import Pattern, block_means, chosen_blocks, random_blocks

_WINDOWED = ("sliding", "sinks", "global", "bigbird")


class Window(Mechanism):
    """Attention inside a sliding window, with what the variant adds to it.

    Under a causal mask the window of width w is the query and the w − 1 tokens before it; without a mask it is the query and
    ⌊w/2⌋ tokens on each side (Longformer). With a dilation δ it takes every δ-th token, still w in all. Sinks and global
    tokens are the first real tokens of the sequence. Positions, blocks and distances count tokens, padding included.
    """

    key: ClassVar[str] = "window"
    title: ClassVar[str] = "Sliding window"
    idea: ClassVar[str] = "Look at what is near, and at a few tokens or blocks besides."
    paper: ClassVar[str] = "Beltagy, Peters and Cohan 2020, arXiv:2004.05150"
    complexity: ClassVar[str] = "n·w·d"
    family: ClassVar[Family] = "by place"
    order: ClassVar[int] = 10
    causal_note: ClassVar[str] = (
        "The window reaches back only, random blocks are past ones, and only blocks before the query's own are scored. A global "
        "token sees earlier tokens only."
    )

    variant: Literal["sliding", "sinks", "global", "bigbird", "selected"] = dial(
        "sinks",
        title="Beside the window",
        help="What a query sees beside the tokens near it.",
        options={
            "sliding": "nothing (Longformer's window)",
            "sinks": "the first tokens (StreamingLLM)",
            "global": "global tokens (Longformer)",
            "bigbird": "global tokens and random blocks (BigBird)",
            "selected": "blocks chosen by content (MoBA)",
        },
    )
    width: int = dial(
        60,
        title="Window width w",
        symbol="w",
        ge=1,
        le=131072,
        scale="log2",
        help="Tokens in the window: the query and those before it, or half on each side when there is no mask.",
    )
    sinks: int = dial(
        4,
        title="Sinks s",
        symbol="s",
        ge=0,
        le=65536,
        when={"variant": ("sinks",)},
        help="The first s tokens stay visible to every query.",
    )
    global_tokens: int = dial(
        4,
        title="Global tokens g",
        symbol="g",
        ge=0,
        le=65536,
        when={"variant": ("global", "bigbird")},
        help="Every query sees the first g tokens, and they see every token.",
    )
    random_blocks: int = dial(
        2,
        title="Random blocks r",
        symbol="r",
        ge=0,
        le=64,
        when={"variant": ("bigbird",)},
        help="Each block of queries also sees r blocks of keys drawn at random.",
    )
    selected_blocks: int = dial(
        3,
        title="Chosen blocks k",
        symbol="k",
        ge=0,
        le=65536,
        when={"variant": ("selected",)},
        help="A query sees its own block and the k others whose mean key it scores highest.",
    )
    block: int = dial(
        16,
        title="Block size b",
        symbol="b",
        ge=1,
        le=65536,
        scale="log2",
        when={"variant": ("bigbird", "selected")},
        help="Tokens in a block.",
    )
    windowed: bool = dial(
        False,
        title="Chosen blocks and window",
        when={"variant": ("selected",)},
        help="Also see the sliding window, as native sparse attention (NSA) does.",
    )
    dilation: int = dial(
        1,
        title="Dilation δ",
        symbol="δ",
        ge=1,
        le=4096,
        scale="log2",
        when={"variant": _WINDOWED},
        help="The window takes every δ-th token, so it reaches δ times as far with as many keys.",
    )

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: (w + s)·(d + e) per query and head, and b·(d + e) for each block; choosing blocks adds n·d/b."""
        pattern = self._pattern(sequence)
        means = chosen = None
        if self.variant == "selected":
            with torch.no_grad():
                means = block_means(sequence.k, pattern)
                chosen = chosen_blocks(sequence, means, pattern, self.selected_blocks)
        trace = WindowTrace(columns=pattern.columns, full=pattern.full, random=pattern.random, means=means, chosen=chosen)
        return WindowMap(
            mechanism=self,
            sequence=sequence,
            output=pattern_output(sequence, pattern, chosen),
            trace=trace,
            cost=_cost(sequence, pattern, chosen),
            pattern=pattern,
            width=self.width,
            sinks=self.variant == "sinks",
        )

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """The pattern's pairs; which blocks a query chooses depends on its content, so that variant must attend."""
        return super().estimated_cost(sequence) if self.variant == "selected" else _cost(sequence, self._pattern(sequence), None)

    def _pattern(self, sequence: Sequence) -> Pattern:
        n, device = sequence.n, sequence.q.device
        windowed = self.variant != "selected" or self.windowed
        dilation = self.dilation if self.variant != "selected" else 1
        furthest = (n - 1) // dilation
        back = min(self.width - 1 if sequence.causal else self.width // 2, furthest) if windowed else -1
        ahead = min(self.width // 2, furthest) if windowed and not sequence.causal else 0
        always_visible = {"sinks": self.sinks, "global": self.global_tokens, "bigbird": self.global_tokens}
        tokens = sequence.real.nonzero().squeeze(-1)
        columns = tokens[: always_visible.get(self.variant, 0)]
        blocks = -(-n // self.block)
        count = min(self.random_blocks, blocks - 1) if self.variant == "bigbird" else 0
        return Pattern(
            n=n,
            causal=sequence.causal,
            real=sequence.real,
            back=back,
            ahead=ahead,
            dilation=dilation,
            columns=columns,
            full=columns if self.variant in ("global", "bigbird") else columns[:0],
            # A block longer than the sequence would only add masked places.
            block=min(self.block, n),
            random=random_blocks(self.seed, blocks if count else 0, count, sequence.causal).to(device),
        )

    def exact_setting(self, n: int) -> Self:
        """A window that spans the sequence from both of its ends, or all blocks chosen."""
        if self.variant == "selected":
            return self.with_dials(selected_blocks=-(-n // self.block))
        return self.with_dials(width=2 * n, dilation=1)

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Windows (or chosen blocks) that double, up to all."""
        if self.variant == "selected":
            blocks = -(-n // self.block)
            counts = sorted({0, *(max(1, blocks // share) for share in (16, 8, 4, 2)), blocks})
            return tuple(self.with_dials(selected_blocks=count) for count in counts)
        widths = sorted({max(1, n // share) for share in (16, 8, 4, 2)})
        return (*(self.with_dials(width=width) for width in widths), self.exact_setting(n))

    def with_budget(self, keys: int, n: int) -> Self:
        """`keys` keys in all: what the variant adds comes first, and the rest is the window."""
        if self.variant == "selected":
            block = min(self.block, max(1, keys // 4))
            width = max(1, keys // 4) if self.windowed else self.width
            rest = keys - width if self.windowed else keys
            return self.with_dials(block=block, selected_blocks=max(0, -(-rest // block) - 1), width=width)
        sinks, tokens, drawn, block = self.sinks, self.global_tokens, self.random_blocks, self.block
        spent = 0
        if self.variant == "sinks":
            spent = sinks = min(sinks, keys // 2)
        if self.variant in ("global", "bigbird"):
            spent = tokens = min(tokens, keys // 2)
        if self.variant == "bigbird":
            block = min(block, max(1, keys // (4 * max(1, drawn))))
            drawn = min(drawn, keys // (4 * block))
            spent += drawn * block
        return self.with_dials(width=max(1, keys - spent), sinks=sinks, global_tokens=tokens, random_blocks=drawn, block=block)

    @property
    def label(self) -> str:
        """The window, and what the variant adds to it."""
        return {
            "sliding": "Sliding window",
            "sinks": "Window + sinks",
            "global": "Window + global tokens",
            "bigbird": "BigBird",
            "selected": "Chosen blocks + window" if self.windowed else "Chosen blocks",
        }[self.variant]

    @property
    def parameters(self) -> Origin:
        """Only BigBird's blocks are drawn."""
        return "random draw" if self.variant == "bigbird" else "none"


def _cost(sequence: Sequence, pattern: Pattern, chosen: Int[Tensor, "h n m"] | None) -> Cost:
    """The pairs of all parts, and for chosen blocks a score with every block's mean."""
    pairs = pairs_seen(pattern, sequence.h, chosen)
    scored = 0 if chosen is None else sequence.h * sequence.n * pattern.blocks * sequence.d
    size, width = sequence.q.element_size(), sequence.d + sequence.e
    return Cost(
        multiply_adds=pairs * width + scored,
        bytes_moved=size * (2 * sequence.h * sequence.n * width + 2 * pairs + 2 * scored // sequence.d),
        bytes_peak=size * peak_cells(sequence, pattern),
    )
