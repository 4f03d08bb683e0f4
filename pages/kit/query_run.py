"""One run of a page: the setting, what its study gave, and how a sentence names a token of it."""

from __future__ import annotations

from dataclasses import dataclass

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.studies.base.study import Result, Setting
from pages.kit.text import _, quoted


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A mechanism and the result of its study, whose arrays hold `tokens`, and whose words the refusal where there is one."""

    mechanism: Mechanism
    result: Result

    @property
    def setting(self) -> Setting:
        """The mechanism as a study holds it."""
        return Setting.of(self.mechanism)

    @property
    def refused(self) -> bool:
        """Whether this setting cannot read the sequence."""
        return "refusal" in self.result.words

    @property
    def spaced(self) -> list[str]:
        """The tokens as they are joined to a text: only a text's tokens bring their own spaces."""
        space = "" if self.result.study.source.kind == "text" else " "
        return [f"{space}{token}" for token in self.result.arrays["tokens"]]

    def name(self, token: int) -> str:
        """A token as it stands in a sentence."""
        return quoted(str(self.result.arrays["tokens"][token]))


@dataclass(frozen=True, kw_only=True)
class QueryRun(StudyRun):
    """A run of a page that follows a query through a mechanism: the arrays hold `query` too."""

    @property
    def query(self) -> int:
        """The token that looks back."""
        return int(self.result.arrays["query"])


def outside(sinks: int) -> str:
    """The words that say that sinks are left out, where the head has any."""
    if sinks == 0:
        return ""
    return _(" outside the sink") if sinks == 1 else _(" outside the {count} sinks").format(count=sinks)
