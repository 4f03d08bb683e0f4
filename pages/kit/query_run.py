"""One run of a page that follows a query through a mechanism: the setting, what it gave, and how a sentence names it."""

from __future__ import annotations

from dataclasses import dataclass

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.studies.base.study import Result, Setting
from pages.kit.text import _, quoted


@dataclass(frozen=True, kw_only=True)
class QueryRun:
    """A mechanism and the result of its study, whose arrays hold `query` and `tokens`, or whose words the refusal."""

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
    def query(self) -> int:
        """The token that looks back."""
        return int(self.result.arrays["query"])

    def name(self, token: int) -> str:
        """A token as it stands in a sentence."""
        return quoted(str(self.result.arrays["tokens"][token]))


def outside(sinks: int) -> str:
    """The words that say that sinks are left out, where the head has any."""
    if sinks == 0:
        return ""
    return _(" outside the sink") if sinks == 1 else _(" outside the {count} sinks").format(count=sinks)
