"""The map of hierarchical attention, and at which level a key was read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.mechanism import Explanation
from longattn_core.mechanisms.hierarchical.dyadic import CoarseReader
from longattn_core.mechanisms.hierarchical.nested import NestedReader, TileScores
from longattn_core.numerics.maps.grouped import Covering, GroupedMap
from longattn_core.numerics.tiles.groups import Groups
from longattn_core.wording import noun_for

Facts = dict[str, float | int | str | bool]


class HierarchicalReason(StrEnum):
    """At which level a key was read."""

    TOKEN = "one by one, in the own group"
    GROUP = "in the value of its group"
    OUTER_GROUP = "in the value of its outermost group"
    SEVERAL = "at several levels"
    NEAR = "one by one, in a near block"
    FAR = "in the mean of a far block"


@dataclass(frozen=True, kw_only=True, eq=False)
class HierarchicalTrace:
    """The levels, and how much each counts for each query.

    `names` are the levels' names, "token" first; `levels` the groups of each level above it, with their queries, keys, values
    and shares. `gates [h n L]` is the weight that each query gives to each level. `contributions [L h n e]` add up to the
    output; divided by its gate, a contribution is the level's own output. They are None for blocks, which have many levels:
    `level_rows` of the map gives each of those.
    """

    names: tuple[str, ...]
    levels: tuple[Groups, ...]
    gates: Float[Tensor, "h n L"]
    contributions: Float[Tensor, "L h n e"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class HierarchicalMap(GroupedMap):
    """Fine beside the diagonal, blocks beyond; `level_rows` gives the map of one level alone."""

    trace: HierarchicalTrace

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        coverings = self.coverings(head, query, key)
        if not isinstance(self.reading, NestedReader):
            reason, facts, text = self._by_block(query, key, coverings[0])
        elif self.reading.joined == "product":
            reason, facts, text = self._by_product(head, query, key, coverings[0], weight)
        else:
            reason, facts, text = self._by_levels(head, query, coverings)
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)

    def _by_product(self, head: int, query: int, key: int, covering: Covering, weight: float) -> _Sentence:
        reason = _depth(covering.level, len(self.trace.levels))
        chain = self._probabilities(head, query, key, covering.level)
        facts: Facts = {"level": self.trace.names[covering.level], **{f"p_{name}": p for name, p in chain.items()}}
        if not self.trace.levels:
            return reason, facts, f"With one level every key is read by itself, as in exact attention: {weight:.3g}."
        terms = list(chain.items())
        product = " × ".join(f"p({name}{'' if i == 0 else f' | {terms[i - 1][0]}'}) {p:.3g}" for i, (name, p) in enumerate(terms))
        if covering.level == 0:
            own = f"The key stands in the query's own {terms[-2][0]} and is read one by one"
            return reason, facts, f"{own}: {product} = {weight:.3g}."
        start, end, size = self._extent(covering)
        facts |= {"start": start, "end": end, "size": size}
        text = (
            f"The key is read only in the value of its {self.trace.names[covering.level]}, tokens {start} to {end}, which is "
            f"pooled by that group's own mean query: {product} = {weight:.3g}."
        )
        return reason, facts, text

    def _probabilities(self, head: int, query: int, key: int, level: int) -> dict[str, float]:
        """The factors of the weight from the coarsest level down; below the level that is read, the shares within its group."""
        reading = self.reading
        assert isinstance(reading, NestedReader)
        queries = torch.tensor([[query]], device=self.output.device)
        listed, shared = reading.listed(queries[0], queries[0] + 1), reading.shared(query)
        near_read, far_read = reading.visible(queries, listed, shared)
        near, far = reading.scores(reading.queries[[head]], reading.keys[[head]], queries, listed, shared)
        scored = TileScores(near=near, far=far, near_read=near_read, far_read=far_read, listed=listed, shared=shared)
        chain, levels, out = reading.chain(scored), self.trace.levels, {}
        for above in range(len(levels), 0, -1):
            groups, name = levels[above - 1], self.trace.names[above]
            if above > level:
                out[name] = float(chain.own[above - 1][0, 0, 0])
            elif above == level:
                item = reading.bases[above] + int(groups.of[key])
                items = shared if above == len(levels) else listed[0]
                out[name] = float(chain.others[above - 1][0, 0, 0, items == item])
            else:
                members = slice(int(groups.first[groups.of[key]]), int(groups.last[groups.of[key]]) + 1)
                out[name] = float(levels[above].share[head, members].sum())
        if level == 0:
            out[self.trace.names[0]] = float(chain.tokens[0, 0, 0, listed[0] == key])
        else:
            out[self.trace.names[0]] = float(levels[0].share[head, key])
        return out

    def _by_levels(self, head: int, query: int, coverings: tuple[Covering, ...]) -> _Sentence:
        facts: Facts = {}
        for level, name in enumerate(self.trace.names):
            facts[f"{name}_part"] = sum(c.weight * c.share for c in coverings if c.level == level)
            facts[f"{name}_gate"] = float(self.trace.gates[head, query, level])
        parts = ", ".join(f"{facts[f'{self.trace.names[c.level]}_part']:.3g} {_read_as(self.trace.names, c)}" for c in coverings)
        text = (
            f"The weights of {len(self.trace.names)} {noun_for(len(self.trace.names), 'level')} are added, each times what the "
            f"level counts for this query; this key gets {parts}."
        )
        reason = HierarchicalReason.SEVERAL if len(coverings) > 1 else _depth(coverings[0].level, len(self.trace.levels))
        return reason, facts, text

    def _by_block(self, query: int, key: int, covering: Covering) -> _Sentence:
        facts: Facts = {"distance": abs(query - key), "level": covering.level}
        if covering.level == 0:
            text = (
                f"The key is {facts['distance']} {noun_for(abs(query - key), 'token')} away, in the query's own block or one "
                f"beside it, and is read one by one: {covering.weight:.3g}."
            )
            return HierarchicalReason.NEAR, facts, text
        start, end, size = self._extent(covering)
        facts |= {"start": start, "end": end, "size": size, "block_weight": covering.weight}
        reader = "the query"
        if isinstance(self.reading, CoarseReader):
            groups = self.trace.levels[covering.level - 1]
            own = int(groups.of[query])
            facts |= {"query_start": int(groups.first[own]), "query_end": int(groups.last[own])}
            reader = f"the mean query of tokens {facts['query_start']} to {facts['query_end']}"
        text = (
            f"The key is {facts['distance']} tokens away, so {reader} reads it only in the mean of tokens {start} to {end}: "
            f"the mean gets {covering.weight:.3g}, and this key 1/{size} of it."
        )
        return HierarchicalReason.FAR, facts, text

    def _extent(self, covering: Covering) -> tuple[int, int, int]:
        """First token, last token and number of real tokens of the group that is read."""
        groups = self.trace.levels[covering.level - 1]
        return int(groups.first[covering.group]), int(groups.last[covering.group]), int(groups.size[covering.group])


_Sentence = tuple[HierarchicalReason, Facts, str]
"""The parts of an explanation that depend on the variant: reason, facts, text."""


def _depth(level: int, levels: int) -> HierarchicalReason:
    if level == 0:
        return HierarchicalReason.TOKEN
    return HierarchicalReason.OUTER_GROUP if level == levels and levels > 1 else HierarchicalReason.GROUP


def _read_as(names: tuple[str, ...], covering: Covering) -> str:
    return "as a token" if covering.level == 0 else f"through its {names[covering.level]}"
