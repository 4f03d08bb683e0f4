"""Text to the language model's tokens and back, with the characters that each token stands for.

Source: byte-level byte-pair encoding, Radford et al. 2019 (GPT-2), section 2.2, with each digit a token of its own.
Deviation: special tokens are never recognised in a text; a typed `<|im_start|>` is read as plain characters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from tokenizers import Tokenizer

from longattn_core.language_model.weights import converted_weights

__all__ = ["Encoded", "TextTokenizer", "load_tokenizer"]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The tokens of a text: ids, display strings, and the `(start, end)` characters of each token.

    A character outside the vocabulary is written as several tokens of bytes. These have the same offsets, and each displays its
    bytes (`\\xe4\\xbd`), because none of them is a whole character.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]


class TextTokenizer:
    """The model's tokenizer. No call changes its state, so threads may share it."""

    def __init__(self, file: Path) -> None:
        """Read a `tokenizer.json` with a byte-level model."""
        self._tokenizer = Tokenizer.from_file(str(file))
        characters = _byte_characters()
        self._size = self._tokenizer.get_vocab_size()
        self._to_bytes = {ord(character): byte for byte, character in characters.items()}
        self._unwritable = frozenset(
            byte for byte, character in characters.items() if self._tokenizer.token_to_id(character) is None
        )

    def encode(self, text: str) -> Encoded:
        """The tokens of `text`; their bytes, joined, are exactly the bytes of the text.

        Raises:
            ValueError: a character that this vocabulary cannot write (a lone surrogate, six rare control characters,
                unassigned planes of Unicode), named with its place.
        """
        self._check(text)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        tokens = tuple(self._bytes(index).decode("utf-8", "backslashreplace") for index in encoding.ids)
        return Encoded(ids=tuple(encoding.ids), tokens=tokens, offsets=tuple(encoding.offsets))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens. Bytes that form no character (a cut inside one leaves such bytes) become U+FFFD.

        Raises:
            ValueError: an id that is not in the vocabulary.
        """
        joined = bytearray()
        for index in ids:
            if not 0 <= index < self._size:
                raise ValueError(f"Token ids run from 0 to {self._size - 1}; found {index}.")
            joined += self._bytes(index)
        return joined.decode("utf-8", "replace")

    def _bytes(self, index: int) -> bytes:
        """The bytes of a token, computed on demand: for all 49,152 tokens they would take a fifth of a second at each start."""
        piece = self._tokenizer.id_to_token(index)
        assert piece is not None
        return piece.translate(self._to_bytes).encode("latin-1")

    def _check(self, text: str) -> None:
        try:
            if self._unwritable.isdisjoint(text.encode()):
                return
        except UnicodeEncodeError:
            pass  # a lone surrogate: the loop below finds and names it
        for place, character in enumerate(text, start=1):
            if "\ud800" <= character <= "\udfff" or not self._unwritable.isdisjoint(character.encode()):
                raise ValueError(
                    f"Character {place:,} of the text is U+{ord(character):04X}, "
                    "which the language model's vocabulary cannot write; take it out."
                )


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable character for every byte: the byte itself where it is printable, else the next letter from U+0100."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


_LOADING = Lock()


@lru_cache(maxsize=1)
def _loaded() -> TextTokenizer:
    return TextTokenizer(converted_weights().tokenizer)


def load_tokenizer() -> TextTokenizer:
    """The language model's tokenizer, read once per process and shared by every thread.

    Raises:
        WeightsMissing: the weights' package is not installed, or its weights cannot be converted.
    """
    with _LOADING:
        return _loaded()
