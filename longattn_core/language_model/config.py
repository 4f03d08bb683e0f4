"""The sizes of a Llama-shaped language model, and the names and shapes of its tensors.

Source: Touvron et al. 2023, arXiv:2302.13971, section 2.2, with grouped queries (Ainslie et al. 2023, arXiv:2305.13245)
and the output matrix tied to the embedding. Tensor names are ours.
"""

from dataclasses import dataclass

__all__ = ["ModelConfig"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All sizes of the forward pass: two models with equal configs differ only in their weights.

    Raises: ValueError when the heads do not divide the width, the key/value heads do not divide the heads, or the head width is
    odd (rotary positions rotate pairs of channels).
    """

    vocabulary: int
    width: int
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    context: int
    rotary_base: float
    epsilon: float

    def __post_init__(self) -> None:
        """Check that the sizes fit together."""
        sizes = ("vocabulary", "width", "hidden", "layers", "heads", "key_value_heads", "context")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}.")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of key_value_heads {self.key_value_heads}.")
        if self.head_width % 2:
            raise ValueError(f"head width {self.head_width} is odd; rotary positions turn pairs of channels.")

    @property
    def head_width(self) -> int:
        """Channels of one query, key or value: `d`."""
        return self.width // self.heads

    @property
    def group_size(self) -> int:
        """How many query heads read the same key/value head."""
        return self.heads // self.key_value_heads

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor; a matrix is `[out, in]`, applied as `x @ w.T`."""
        shared = self.key_value_heads * self.head_width
        block: dict[str, tuple[int, ...]] = {
            "attention_norm": (self.width,),
            "query": (self.width, self.width),
            "key": (shared, self.width),
            "value": (shared, self.width),
            "output": (self.width, self.width),
            "mlp_norm": (self.width,),
            "gate": (self.hidden, self.width),
            "up": (self.hidden, self.width),
            "down": (self.width, self.hidden),
        }
        named = {f"blocks.{layer}.{name}": shape for layer in range(self.layers) for name, shape in block.items()}
        return {"embedding": (self.vocabulary, self.width), **named, "final_norm": (self.width,)}
