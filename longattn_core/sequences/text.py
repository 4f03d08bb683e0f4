"""A text as a sequence: the queries, keys and values that heads of the language model compute on it.

Source: the heads of SmolLM2-135M (see `language_model.weights`). Nothing is trained or fitted here.
"""

from collections.abc import Sequence as Many

from longattn_core.contracts.sequence import Sequence
from longattn_core.language_model import captures
from longattn_core.language_model.model import load_language_model, repeat_groups
from longattn_core.language_model.tokenizer import Encoded, load_tokenizer
from longattn_core.language_model.weights import converted_weights
from longattn_core.sequences.levels import text_levels
from longattn_core.wording import noun_for

__all__ = ["text_sequence"]


def text_sequence(
    text: str,
    *,
    layer: int = 17,
    heads: tuple[int, ...] | None = None,
    sharpness: float = 1.0,
    causal: bool = True,
    rotary: bool = True,
    length: int | None = None,
    calibration: str | None = None,
    language: str = "en",
    keep: bool = False,
) -> Sequence:
    """Run the language model on a text up to `layer`, and return heads of that layer: float32, `q, k, v [h n 64]`.

    - `heads`: numbers in the layer, None for all nine. Three neighbours share keys and values, which come repeated.
    - `length`: keeps so many tokens from the beginning of a longer text.
    - `rotary=False`: leaves the positions out of the captured queries and keys; the layers below use them all the same.
    - `causal=False`: the sequence has no mask. The model itself always reads from left to right.
    - `sharpness`: multiplies the scores.
    - `calibration`: another text, read in the same way, for mechanisms that must fit something without seeing the future.
    - `language`: a code such as "zh", for the splitter of sentences.
    - `keep`: for texts that come with the laboratory: the captured heads are stored on disk.

    Cost: the blocks below the layer; about 1 s for layer 17 at 512 tokens on one core, 40 s at 8,192.

    Raises:
        ValueError, one sentence: the text is blank, has more tokens than the model reads, or holds a character that is not in
            the vocabulary; or the layer, a head or the length does not exist.
        WeightsMissing: the language model is not installed; the sentence says how to install it.
    """
    if not text.strip():
        found = "blank: it holds only spaces and line ends" if text else "empty"
        raise ValueError(f"The text is {found}; write at least one word.")
    model = load_language_model()
    chosen = _existing_heads(heads, model.config.heads)
    encoded, total = _cut(load_tokenizer().encode(text), length, model.config.context)
    captured = captures.captured(encoded.ids, layer, rotary=rotary, keep=keep)
    k, v = (repeat_groups(shared, model.config.group_size) for shared in (captured.k, captured.v))
    n, name = len(encoded.ids), converted_weights().name
    extent = f"{_tokens(n)} of a text" if n == total else f"the first {n:,} of {_tokens(total)} of a text"
    sequence = Sequence(
        q=captured.q[list(chosen)],
        k=k[list(chosen)],
        v=v[list(chosen)],
        causal=causal,
        rotary=model.rotary if rotary else None,
        heads=chosen,
        total_heads=model.config.heads,
        key_value_groups=model.config.group_size,
        tokens=encoded.tokens,
        offsets=encoded.offsets,
        levels=text_levels(text, encoded.offsets, language=language),
        calibration=None
        if calibration is None
        else text_sequence(
            calibration, layer=layer, heads=chosen, causal=causal, rotary=rotary, length=length, language=language
        ),
        origin=f"{name}, layer {layer}, {_heads(chosen)}, on {extent}{'' if rotary else ', without rotary positions'}.",
    )
    return sequence if sharpness == 1 else sequence.sharpened(sharpness)


def _existing_heads(heads: tuple[int, ...] | None, total: int) -> tuple[int, ...]:
    chosen = tuple(range(total)) if heads is None else tuple(heads)
    if not chosen or any(not 0 <= head < total for head in chosen):
        raise ValueError(f"heads must be numbers in 0 … {total - 1}, at least one; found {list(chosen)}.")
    return chosen


def _cut(encoded: Encoded, length: int | None, most: int) -> tuple[Encoded, int]:
    """The first `length` tokens, and the number of tokens of the whole text."""
    total = len(encoded.ids)
    if length is None:
        if total > most:
            raise ValueError(
                f"The text has {total:,} tokens, and the model reads at most {most:,}: "
                "shorten it, or set a length to read only its beginning."
            )
        return encoded, total
    if not 1 <= length <= most:
        raise ValueError(f"length must lie in 1 … {most:,} tokens, found {length:,}.")
    kept = Encoded(ids=encoded.ids[:length], tokens=encoded.tokens[:length], offsets=encoded.offsets[:length])
    return kept, total


def _tokens(count: int) -> str:
    return f"{count:,} {noun_for(count, 'token')}"


def _heads(chosen: Many[int]) -> str:
    return f"{noun_for(len(chosen), 'head')} " + ", ".join(map(str, chosen))
