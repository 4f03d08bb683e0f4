"""The forward pass of a Llama-shaped language model, readable, with queries and keys to take out and attention to swap.

Source: Touvron et al. 2023, arXiv:2302.13971, section 2.2. One text at a time and no cache of keys, because the lab
reads whole texts; nothing is stored on the model while it runs, so many threads may share one.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from longattn_core.language_model.config import ModelConfig
from longattn_core.language_model.weights import converted_weights, load_tensors
from longattn_core.numerics.rotary import rotary_frequencies, rotate

__all__ = ["Attention", "Captured", "LanguageModel", "exact_attention", "load_language_model", "repeat_groups"]

Attention = Callable[[Float[Tensor, "h n d"], Float[Tensor, "h n d"], Float[Tensor, "h n e"], int], Float[Tensor, "h n e"]]
"""`(q, k, v, layer) -> output`: keys and values come repeated, one per query head, and q and k after rotary."""


def exact_attention(
    q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"], layer: int
) -> Float[Tensor, "h n e"]:
    """Causal softmax attention, the same in every layer. Cost: h·n²·(d + e) / 2 multiply-adds, O(n) memory."""
    # A batch axis of one: without it the CPU takes the path that holds n × n.
    return functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]


def repeat_groups(x: Float[Tensor, "g n d"], group_size: int) -> Float[Tensor, "h n d"]:
    """Give every query head its own copy of what it shares: head `i` reads key/value head `i // group_size`."""
    return x.repeat_interleave(group_size, dim=0)


@dataclass(frozen=True, kw_only=True)
class Captured:
    """Queries, keys and values of one layer; `k` and `v` once per key/value head, not yet repeated."""

    q: Float[Tensor, "h n d"]
    k: Float[Tensor, "g n d"]
    v: Float[Tensor, "g n d"]


class LanguageModel:
    """A language model that computes on demand and remembers nothing between calls.

    Weights never ask for gradients, so no graph is built; yet a swapped attention with parameters of its own can be
    trained through the model.
    """

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Float[Tensor, "..."]]) -> None:
        """Hold `tensors`, named and shaped as `config.shapes()` says, all of one dtype and device."""
        for name, shape in config.shapes().items():
            if name not in tensors or tuple(tensors[name].shape) != shape:
                found = tuple(tensors[name].shape) if name in tensors else "nothing"
                raise ValueError(f"weights: {name} should have shape {shape}, found {found}.")
        self.config = config
        self.rotary = rotary_frequencies(config.head_width, config.rotary_base)
        self._tensors = {name: tensors[name] for name in config.shapes()}

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights, and so of everything that the model computes."""
        return self._tensors["embedding"].dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and so where everything is computed."""
        return self._tensors["embedding"].device

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "LanguageModel":
        """Build the same model in another number format or on another device; this one stays as it is."""
        moved = {name: tensor.to(dtype=dtype, device=device) for name, tensor in self._tensors.items()}
        return LanguageModel(self.config, moved)

    def capture(
        self,
        ids: Many[int] | Int[Tensor, "n"],
        layers: int | Iterable[int],
        *,
        rotary: bool = True,
        attention: Attention = exact_attention,
    ) -> dict[int, Captured]:
        """Queries, keys and values of one or several layers, in one pass that stops at the highest of them.

        `rotary=False` gives the queries and keys of those layers before their positions are put on; the layers below
        read positions all the same, as the model was trained to. Cost: the blocks below the highest layer.

        Raises:
            ValueError: no token, too many tokens, an id outside the vocabulary, or a layer that does not exist.
        """
        wanted = self._existing({layers} if isinstance(layers, int) else set(layers))
        x, positions = self._embed(ids)
        captured: dict[int, Captured] = {}
        for layer in range(max(wanted) + 1):
            plain = self._heads(x, layer)
            turned = self._turn(plain, positions)
            if layer in wanted:
                captured[layer] = turned if rotary else plain
            if layer < max(wanted):
                x = self._block(x, turned, layer, attention)
        return captured

    def hidden(self, ids: Many[int] | Int[Tensor, "n"], *, attention: Attention = exact_attention) -> Float[Tensor, "n w"]:
        """What the last block leaves at each token, normalised: the embedding of the token that is expected next."""
        x, positions = self._embed(ids)
        for layer in range(self.config.layers):
            x = self._block(x, self._turn(self._heads(x, layer), positions), layer, attention)
        return self._normalise(x, "final_norm")

    def logits(
        self,
        ids: Many[int] | Int[Tensor, "n"],
        *,
        positions: slice | Many[int] | None = None,
        attention: Attention = exact_attention,
    ) -> Float[Tensor, "r v"]:
        """Scores of every vocabulary entry as the next token, for all tokens or only for those at `positions`.

        One row is 49,152 numbers: at 8,192 tokens all rows are 1.6 GB, and `positions=[-1]` is 0.2 MB.
        """
        hidden = self.hidden(ids, attention=attention)
        if positions is not None:
            hidden = hidden[positions if isinstance(positions, slice) else list(positions)]
        return hidden @ self._tensors["embedding"].T

    def _existing(self, layers: set[int]) -> set[int]:
        if not layers:
            raise ValueError("No layer was asked for.")
        for layer in layers:
            if not 0 <= layer < self.config.layers:
                raise ValueError(f"layer is {layer}; the model has layers 0 to {self.config.layers - 1}.")
        return layers

    def _embed(self, ids: Many[int] | Int[Tensor, "n"]) -> tuple[Float[Tensor, "n w"], Int[Tensor, "n"]]:
        tokens = torch.as_tensor(ids, dtype=torch.long, device=self.device)
        if tokens.ndim != 1 or not 1 <= len(tokens) <= self.config.context:
            found = f"shape {tuple(tokens.shape)}" if tokens.ndim != 1 else f"{len(tokens):,} tokens"
            raise ValueError(f"The model reads one row of 1 to {self.config.context:,} tokens; found {found}.")
        least, most, last = int(tokens.min()), int(tokens.max()), self.config.vocabulary - 1
        if least < 0 or most > last:
            raise ValueError(f"Token ids run from 0 to {last}; found {least} to {most}.")
        return functional.embedding(tokens, self._tensors["embedding"]), torch.arange(len(tokens), device=self.device)

    def _normalise(self, x: Float[Tensor, "n w"], name: str) -> Float[Tensor, "n w"]:
        return functional.rms_norm(x, (x.shape[-1],), self._tensors[name], self.config.epsilon)

    def _heads(self, x: Float[Tensor, "n w"], layer: int) -> Captured:
        normed = self._normalise(x, f"blocks.{layer}.attention_norm")

        def project(name: str) -> Float[Tensor, "heads n d"]:
            flat = normed @ self._tensors[f"blocks.{layer}.{name}"].T
            return flat.view(len(x), -1, self.config.head_width).transpose(0, 1)

        return Captured(q=project("query"), k=project("key"), v=project("value"))

    def _turn(self, heads: Captured, positions: Int[Tensor, "n"]) -> Captured:
        frequencies = self.rotary.to(positions.device)
        q, k = (rotate(x, positions, frequencies) for x in (heads.q, heads.k))
        return Captured(q=q, k=k, v=heads.v)

    def _block(self, x: Float[Tensor, "n w"], heads: Captured, layer: int, attention: Attention) -> Float[Tensor, "n w"]:
        weight = {name: self._tensors[f"blocks.{layer}.{name}"] for name in ("output", "gate", "up", "down")}
        k, v = (repeat_groups(shared, self.config.group_size) for shared in (heads.k, heads.v))
        mixed = attention(heads.q, k, v, layer).transpose(0, 1).flatten(1)
        x = x + mixed @ weight["output"].T
        normed = self._normalise(x, f"blocks.{layer}.mlp_norm")
        return x + (functional.silu(normed @ weight["gate"].T) * (normed @ weight["up"].T)) @ weight["down"].T


_LOADING = Lock()


@lru_cache(maxsize=1)
def _loaded() -> LanguageModel:
    weights = converted_weights()
    # Loaded inside somebody's inference mode, the weights could never again stand in a graph that is trained through.
    with torch.inference_mode(False):
        return LanguageModel(weights.config, load_tensors(weights))


def load_language_model() -> LanguageModel:
    """SmolLM2-135M-Instruct in float32, read once per process and shared by every thread.

    Raises:
        WeightsMissing: the weights' package is not installed, or its weights cannot be converted.
    """
    # lru_cache alone would let two sessions that start together read the weights twice.
    with _LOADING:
        return _loaded()
