"""The run of the hierarchy page: one query's descent, how other descents went, and what both say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.hierarchical import Descent, DescentFinding, WrongTurns, descent_finding
from longattn_core.studies.hierarchical.tree import speller
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.query_run import QueryRun
from pages.kit.text import data, escaped, quoted

QUERY, FOCUS, KEY = "hierarchical.query", "hierarchical.focus", "hierarchical.key"
"""The state's names for the query, the group that the visitor went into, and the key whose weight is explained."""


@dataclass(frozen=True, kw_only=True)
class DescentRun(QueryRun):
    """One run of the page: the mechanism, the descent of one query, where the others go wrong, and what that says."""

    mechanism: Hierarchical
    wrong_turns: Result
    finding: DescentFinding

    @property
    def tokens(self) -> list[str]:
        """The tokens as the text's picture takes them."""
        return [str(token) for token in self.result.arrays["tokens"]]

    @property
    def names(self) -> list[str]:
        """The levels' names, coarsest first."""
        return self.result.words["names"].split("\n")

    def spell(self, token: int) -> str:
        """What a token spells in the text, so that no character is cut in bytes."""
        return speller(self.result.study.source)(token, token)

    def spelled(self, token: int) -> str:
        """The same as it stands in a sentence."""
        return quoted(self.spell(token))

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The numbers and names that the page's sentences may hold, safe to stand in Markdown."""
        if self.refused:
            return {"refusal": self.result.words["refusal"]}
        finding, plurals = self.finding, self.result.words["plurals"].split("\n")
        return {
            "query": self.spelled(self.query),
            "outer": finding.outer,
            "outers": plurals[0],
            "inners": plurals[1],
            "inner": self.names[1],
            "target": escaped(finding.target),
            "chosen": escaped(finding.chosen),
            "exact": finding.exact,
            "given": finding.given,
            "rival": finding.rival,
            "best": self.spelled(finding.best),
            "best_exact": finding.best_exact,
            "best_given": finding.best_given,
            "kept": finding.best_given / finding.best_exact if finding.best_exact else 0.0,
            "sinks": finding.sink_share,
            "measured": finding.measured,
            "targets": finding.targets,
            "lost": finding.lost_share,
            "arrive": finding.arrive_share,
        }


def descent_run(page: Page, mechanism: Hierarchical) -> DescentRun:
    """Follow the query that was chosen, and count where other queries' descents go wrong."""
    setting = Setting.of(mechanism)
    result = run(Descent(source=page.source, setting=setting, query=_query(page)))
    wrong_turns = run(WrongTurns(source=page.source, setting=setting))
    finding = descent_finding(result, wrong_turns)
    return DescentRun(mechanism=mechanism, result=result, wrong_turns=wrong_turns, finding=finding)


def _query(page: Page) -> int | None:
    """The query that the visitor chose; else the one that the sample is known for; else the last token (None)."""
    default = None
    if page.source.kind == "text" and page.source.sample is not None:
        queries = {entry["file"]: entry["look"]["query"] for entry in data("texts/index.json")}
        default = queries.get(page.source.sample)
    query = state.recall(QUERY, default, place)
    return query if query is not None and query < page.tokens else None


def place(text: str) -> int:
    """A token's place as the state holds it. Raises: ValueError where no sequence has such a token."""
    number = int(text)
    if not 0 <= number < 65536:
        raise ValueError("no such token")
    return number
