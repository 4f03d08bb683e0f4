"""One run of a page: the setting, what its study gave, and the words of a sentence for it."""

from __future__ import annotations

from dataclasses import dataclass

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.studies.base.study import Result, Setting
from pages.kit.text import ngettext, quoted


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A mechanism and the result of its study: array `tokens`, or the word `refusal`."""

    mechanism: Mechanism
    result: Result

    @property
    def setting(self) -> Setting:
        """The mechanism's setting, as a study stores it."""
        return Setting.of(self.mechanism)

    @property
    def refused(self) -> bool:
        """Whether this setting cannot read the sequence."""
        return "refusal" in self.result.words

    @property
    def spaced(self) -> list[str]:
        """The tokens as they are joined to a text."""
        return spaced_tokens(self.result)

    def name(self, token: int) -> str:
        """The token at a position, as it is written in a sentence."""
        return quoted(str(self.result.arrays["tokens"][token]))


@dataclass(frozen=True, kw_only=True)
class QueryRun(StudyRun):
    """A run of a page that follows a query through a mechanism: array `query` too."""

    @property
    def query(self) -> int:
        """The position of the query."""
        return int(self.result.arrays["query"])


def spaced_tokens(result: Result) -> list[str]:
    """A result's tokens as they are joined to a text: only a text's tokens bring their own spaces."""
    space = "" if result.study.source.kind == "text" else " "
    return [f"{space}{token}" for token in result.arrays["tokens"]]


def outside(sinks: int) -> str:
    """The words that say how many sinks are left out; empty where the head has none."""
    return ngettext(" outside the sink", " outside the {count} sinks", sinks).format(count=sinks) if sinks else ""
