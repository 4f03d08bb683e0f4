"""Where a sequence comes from, as a frozen model that a study can hold: a text, a synthetic sequence, or an upload.

Source: ours. A source leaves the process in one of two forms: `linked`, which is short and names long contents by their hash,
or `embedded`, which holds all contents.
"""

from __future__ import annotations

import base64
import binascii
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from longattn_core.contracts.mechanism import dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.sequences import library
from longattn_core.sequences.limits import MAX_TOKENS
from longattn_core.sequences.samples import DEFAULT_SAMPLE, sample_language, sample_text
from longattn_core.sequences.synthetic import CALIBRATION_TOKENS, AnySynthetic
from longattn_core.sequences.uploaded import MAX_HEADS, uploaded_sequence
from longattn_core.validation import sentence

__all__ = ["LINK_CHARACTERS", "Source", "SyntheticSource", "TextSource", "UploadedSource", "read_source"]

LINK_CHARACTERS = 600
"""A text of at most this many characters is part of a link; a longer one is named by its hash."""

LAYERS, HEADS, LONGEST_TEXT = 30, 9, 8192
"""Sizes of the language model, for the bounds of the dials: the model is not loaded to check them."""

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Source(BaseModel, ABC):
    """What all sources have: a sequence, a mask, and the two forms in which they leave the process."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    kind: str

    @abstractmethod
    def sequence(self) -> Sequence:
        """Make the sequence. Raises: ValueError, one sentence, when this is not possible."""

    @abstractmethod
    def masked(self, causal: bool) -> Self:
        """The same source under a causal mask, or under none."""

    def linked(self) -> Self:
        """The short form; a long content is stored in this process's library and named by its hash."""
        return self

    def embedded(self) -> Self:
        """The form that holds all contents. Raises: ValueError when a content is no longer in the library."""
        return self

    def _changed(self, **fields: Any) -> Self:
        return type(self).model_validate({**self.model_dump(), **fields})


def _sharpness() -> Any:
    return dial(1.0, title="Sharpness β", symbol="β", ge=0.05, le=20, scale="log10", help="All scores are multiplied by β.")


class TextSource(_Source):
    """Heads of the language model on a text: `sample` (a file name), `text`, or `sha256` (the hash of a long text).

    At most one of the three is given; without any it is the default sample. `length` keeps the first tokens. `calibration` is
    the sample on whose first 512 tokens mechanisms fit what must not depend on this text's future. `language` (such as "zh")
    is for the splitter of sentences; None stands for the sample's language, or English.
    """

    kind: Literal["text"] = "text"
    sample: str | None = None
    text: str | None = None
    sha256: Sha | None = None
    length: int | None = dial(None, title="Length n", symbol="n", ge=1, le=LONGEST_TEXT, help="Tokens read, at most.")
    layer: int = dial(17, title="Layer", symbol="L", ge=0, le=LAYERS - 1, help="Counted from 0.")
    heads: tuple[int, ...] = Field((3,), min_length=1, max_length=HEADS, title="Heads", description="Counted from 0.")
    sharpness: float = _sharpness()
    causal: bool = dial(True, title="Causal mask", help="As the model has it: a token sees only what came before.")
    rotary: bool = dial(True, title="Rotary positions", help="As the model has them; off: content alone.")
    language: str | None = Field(None, max_length=16)
    calibration: str = Field("encyclopedia.txt", max_length=200)

    @field_validator("heads")
    @classmethod
    def _known_heads(cls, heads: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(heads)) < len(heads) or not all(0 <= head < HEADS for head in heads):
            raise ValueError(f"heads must be different numbers in 0 … {HEADS - 1}")
        return heads

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        given = [name for name in ("sample", "text", "sha256") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"a text comes from one place, found {' and '.join(given)}")
        return self

    def content(self) -> str:
        """The text itself. Raises: ValueError for an unknown sample or hash."""
        if self.text is not None:
            return self.text
        if self.sha256 is not None:
            return library.get(self.sha256).decode("utf-8", "replace")
        return sample_text(self.sample or DEFAULT_SAMPLE)

    def sequence(self) -> Sequence:
        """Run the language model on the text and on the calibration text, and capture the heads."""
        # Imported here, because the other sources must work where the model's packages are not installed.
        from longattn_core.sequences.text import text_sequence

        sequence = text_sequence(
            self.content(),
            layer=self.layer,
            heads=self.heads,
            causal=self.causal,
            rotary=self.rotary,
            length=self.length,
            language=self.language or self._sample_language(),
            keep=self.text is None and self.sha256 is None,
        )
        calibration = _calibration(self._calibrated_on(), self.layer, self.heads, self.rotary)
        return replace(sequence, calibration=calibration.masked(self.causal)).sharpened(self.sharpness)

    def _sample_language(self) -> str:
        typed = self.text is not None or self.sha256 is not None
        return "en" if typed else sample_language(self.sample or DEFAULT_SAMPLE)

    def _calibrated_on(self) -> str:
        """The sample for the calibration; another one if it is the text that is read."""
        read = None if self.text is not None or self.sha256 is not None else self.sample or DEFAULT_SAMPLE
        return self.calibration if read != self.calibration else DEFAULT_SAMPLE

    def masked(self, causal: bool) -> Self:
        """The same heads on the same text under another mask."""
        return self._changed(causal=causal)

    def linked(self) -> Self:
        """A long text is replaced by its hash."""
        if self.text is None or len(self.text) <= LINK_CHARACTERS:
            return self
        # A text box can hold half a character (a lone surrogate), which has no encoding.
        return self._changed(text=None, sha256=library.put(self.text.encode("utf-8", "replace")))

    def embedded(self) -> Self:
        """A hash is replaced by its text; a sample stays a name, because every laboratory has it."""
        return self if self.sha256 is None else self._changed(text=self.content(), sha256=None)


@lru_cache(maxsize=8)
def _calibration(sample: str, layer: int, heads: tuple[int, ...], rotary: bool) -> Sequence:
    """The same heads on the beginning of a sample; cached, because it does not depend on the text that is read."""
    from longattn_core.sequences.text import text_sequence

    return text_sequence(
        sample_text(sample),
        layer=layer,
        heads=heads,
        rotary=rotary,
        length=CALIBRATION_TOKENS,
        language=sample_language(sample),
        keep=True,
    )


class SyntheticSource(_Source):
    """A sequence built to isolate one property; `settings` is one of the kinds of `sequences.synthetic`."""

    kind: Literal["synthetic"] = "synthetic"
    settings: AnySynthetic

    def sequence(self) -> Sequence:
        """Draw the sequence."""
        return self.settings.sequence()

    def masked(self, causal: bool) -> Self:
        """The same draw under another mask."""
        return self._changed(settings=self.settings.with_dials(causal=causal))


class UploadedSource(_Source):
    """Uploaded q, k and v: `sha256` is the hash of the file, `data` (when embedded) are its bytes in base64.

    `head` keeps one head of the file, None keeps all. `length` keeps the first tokens.
    """

    kind: Literal["uploaded"] = "uploaded"
    sha256: Sha | Literal[""] = ""
    name: str = Field("the file", max_length=200)
    data: str | None = Field(None, repr=False)
    head: int | None = dial(None, title="Head", ge=0, le=MAX_HEADS - 1, help="Which head of the file; counted from 0.")
    length: int | None = dial(None, title="Length n", symbol="n", ge=1, le=MAX_TOKENS, help="Tokens read, at most.")
    sharpness: float = _sharpness()
    causal: bool = dial(True, title="Causal mask", help="A query looks at itself and at what came before it.")

    def content(self) -> bytes:
        """The file's bytes. Raises: ValueError when there is no file, the library does not hold it, or the base64 is damaged."""
        if self.data is not None:
            try:
                return base64.b64decode(self.data, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"The bytes of {self.name} are damaged: they are no base64.") from None
        if not self.sha256:
            raise ValueError("No file has been given yet: choose a .safetensors or .npz file with q, k and v.")
        return library.get(self.sha256)

    def sequence(self) -> Sequence:
        """Read and check the file."""
        sequence = uploaded_sequence(
            self.content(), name=self.name, causal=self.causal, sharpness=self.sharpness, length=self.length
        )
        if self.head is None:
            return sequence
        if self.head >= sequence.h:
            raise ValueError(f"{self.name} has {sequence.h} heads, counted from 0; head {self.head} is not among them.")
        return sequence.select_heads(self.head)

    def masked(self, causal: bool) -> Self:
        """The same file under another mask."""
        return self._changed(causal=causal)

    def linked(self) -> Self:
        """The bytes are replaced by their hash, and stay in the library."""
        return self if self.data is None else self._changed(data=None, sha256=library.put(self.content()))

    def embedded(self) -> Self:
        """The hash is replaced by the bytes, in base64."""
        if self.data is not None or not self.sha256:
            return self
        return self._changed(data=base64.b64encode(self.content()).decode(), sha256="")


Source: TypeAlias = Annotated[TextSource | SyntheticSource | UploadedSource, Field(discriminator="kind")]

_reader: TypeAdapter[Source] = TypeAdapter(Source)


def read_source(content: Mapping[str, Any] | str) -> Source:
    """Read a source from a mapping or from JSON. Raises: ValueError, one sentence, naming the field that is wrong."""
    try:
        return _reader.validate_json(content) if isinstance(content, str) else _reader.validate_python(content)
    except ValidationError as error:
        raise ValueError(sentence("This source cannot be read", error)) from None
