"""What every study is: a frozen model of everything that a view depends on, which runs to arrays and tables.

A study goes out in three forms: a short link (long text and uploads by their content hash), a JSON file that holds
everything, and three lines of Python. All three give the same arrays on the same machine and versions.
"""

from __future__ import annotations

import base64
import json
import platform
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.language_model.weights import converted_weights
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.former_keys import FORMER_KEYS
from longattn_core.validation import sentence

M = TypeVar("M", bound=Mechanism)
S = TypeVar("S", bound="Study")

Progress = Callable[[float, str], None]
"""Called with a share of the work done, 0 … 1, and a few words; raising from it cancels the study."""

LINK_BYTES = 100_000
"""A link whose content unpacks to more than this was not made here."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a result was made with; `weights` is the language model's hash where the source is a text."""

    versions: Mapping[str, str]
    machine: str
    threads: int
    weights: str | None

    @classmethod
    def here(cls, source: Source) -> Provenance:
        """What this process is made of."""
        versions = _versions()
        machine = f"{platform.system()} {platform.machine()}"
        weights = converted_weights().sha256 if source.kind == "text" else None
        return cls(versions=versions, machine=machine, threads=torch.get_num_threads(), weights=weights)


@cache
def _versions() -> Mapping[str, str]:
    """Read once a process: each is a file to find and to parse, and every result asks."""
    names = ("torch", "numpy", "pandas", "scipy", "pydantic")
    return MappingProxyType({"python": platform.python_version(), **{name: version(name) for name in names}})


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a study gives: named arrays, tidy tables (units in `table.attrs["units"]`), words, and provenance."""

    study: Study
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "provenance", Provenance.here(self.study.source))
        # One result serves all visitors: nobody may write into it.
        for array in self.arrays.values():
            array.setflags(write=False)

    def study_as(self, kind: type[S]) -> S:
        """The study that gave this result, of the kind that it must be of. Raises: TypeError for another kind."""
        if not isinstance(self.study, kind):
            raise TypeError(f"This is a result of {self.study.key!r}, not of a {kind.__name__}.")
        return self.study


class Study(BaseModel, ABC):
    """A question with all its settings; subclasses add fields and compute in `_run`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: ClassVar[str]
    source: Source

    @abstractmethod
    def _run(self, progress: Progress) -> Result:
        """Compute; call `progress` between steps."""

    def run(self, progress: Progress | None = None) -> Result:
        """Compute the arrays and tables. Raises: ValueError, one sentence, when the source gives no sequence."""
        with torch.inference_mode():
            return self._run(progress or (lambda share, words: None))

    def sequence(self) -> Sequence:
        """The sequence of the source, shared by all studies of this process that read the same one."""
        return sequence_of(self.source)

    def to_json(self) -> str:
        """Everything, also long texts and uploaded files, so that the study runs in a clean process."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        content["source"] = self.source.embedded().model_dump(mode="json")
        return json.dumps({"study": self.key, **content}, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises: ValueError naming what is wrong."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"This is no study: it is not JSON ({error.msg} at character {error.pos}).") from None
        return cls.from_content(content)

    def to_link(self) -> str:
        """A short string for a URL; long texts and uploads go by their content hash."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        content["source"] = self.source.linked().model_dump(mode="json", exclude_defaults=True) | {"kind": self.source.kind}
        packed = zlib.compress(json.dumps({"study": self.key, **content}, separators=(",", ":")).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def from_link(cls, link: str) -> Self:
        """Read what `to_link` wrote. Raises: ValueError when it is damaged or no link of this study."""
        return cls.from_content(unpacked(link))

    @classmethod
    def from_content(cls, content: Any) -> Self:
        """The study of a dictionary as `to_json` writes it. Raises: ValueError naming what is wrong."""
        key = content.get("study") if isinstance(content, dict) else None
        if FORMER_KEYS.get(str(key), key) != cls.key:
            raise ValueError(f"This is no study of the kind {cls.key!r}.")
        try:
            return cls.model_validate({name: value for name, value in content.items() if name != "study"})
        except ValidationError as error:
            raise ValueError(sentence("This study cannot be read", error, cls)) from None

    def to_python(self) -> str:
        """Three lines that make the result again, with public names only."""
        name = self.key.replace(".", "_")
        content = self.model_dump(mode="json", exclude_defaults=True)
        content["source"] = self.source.embedded().model_dump(mode="json", exclude_defaults=True) | {"kind": self.source.kind}
        fields = ", ".join(f"{field}={value!r}" for field, value in content.items())
        lines = ("from longattn_core import study", f"{name} = study({self.key!r}, {fields})", f"result = {name}.run()")
        return "\n".join(lines)


def unpacked(link: str) -> Any:
    """What `Study.to_link` packed. Raises: ValueError when the link is damaged."""
    try:
        packed = base64.b64decode(link + "=" * (-len(link) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, LINK_BYTES)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise ValueError("too long")
        return json.loads(text)
    except (ValueError, zlib.error):
        raise ValueError("This link is damaged: it does not unpack to a study.") from None


_sequences: SingleFlightCache[Sequence] = SingleFlightCache(size=12)


def sequence_of(source: Source) -> Sequence:
    """The sequence of a source, made once and kept. Raises: ValueError, one sentence, when the source gives none."""

    def make() -> Sequence:
        with torch.inference_mode():
            return source.sequence()

    return _sequences.get(source.model_dump_json(), make)


class Setting(BaseModel):
    """A mechanism with its dials, as it stands inside a study: `{"key": "favor", "dials": {"features": 64}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    dials: dict[str, Any] = {}

    def build(self) -> Mechanism:
        """The mechanism itself. Raises: ValueError naming the dial."""
        from longattn_core.registry import mechanism

        return mechanism(self.key, **self.dials)

    def build_as(self, kind: type[M]) -> M:
        """The mechanism itself, which must be of this kind. Raises: ValueError when it is of another, or naming the dial."""
        built = self.build()
        if not isinstance(built, kind):
            raise ValueError(f"This study reads {kind.title} ({kind.key!r}), not {built.title} ({built.key!r}).")
        return built

    @classmethod
    def of(cls, mechanism: Mechanism) -> Self:
        """The setting of a mechanism, with only the dials that differ from the default."""
        return cls(key=mechanism.key, dials=mechanism.model_dump(mode="json", exclude_defaults=True))
