"""The map of a windowed pattern: the keys of each row by position and by choice, and the sentence for each pair."""

from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.mechanism import Explanation, ReadCount, Reduce
from longattn_core.mechanisms.window.pattern import Pattern, block_scores
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.maps.listed import SparseMap, entries_of_scores, inverse_root


class WindowReason(StrEnum):
    """Why a pair is or is not seen."""

    IN_WINDOW = "in window"
    SINK = "sink"
    GLOBAL = "global"
    RANDOM_BLOCK = "random block"
    OWN_BLOCK = "own block"
    SELECTED_BLOCK = "selected block"
    TOO_FAR = "too far"
    BETWEEN_STEPS = "between steps"
    NOT_SELECTED = "not selected"


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowTrace:
    """The pattern of one sequence.

    `columns [s]`: tokens that every query sees; `full [f]`: queries that see every key; `random [u r]`: the blocks drawn for
    each block of queries (−1: none), shared by all heads; `means [h B d]`: the mean key of each block, and `chosen [h n m]`:
    the blocks that each query chose (−1: none), both None unless blocks are chosen.
    """

    columns: Int[Tensor, "s"]
    full: Int[Tensor, "f"]
    random: Int[Tensor, "u r"]
    means: Float[Tensor, "h B d"] | None
    chosen: Int[Tensor, "h n m"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowMap(SparseMap):
    """The map: zero except for the window, the columns, the blocks and the full rows (left empty unless `full_rows`).

    `sinks`: sentences call the columns sinks, and not global tokens.
    """

    pattern: Pattern
    trace: WindowTrace
    width: int
    sinks: bool
    full_rows: bool = True

    @property
    def _slots(self) -> int:
        pattern, chosen = self.pattern, self.trace.chosen
        blocks = pattern.random.shape[1] + (0 if chosen is None else 1 + chosen.shape[-1])
        return pattern.back + pattern.ahead + 1 + len(pattern.columns) + blocks * pattern.block

    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        pattern, chosen = self.pattern, self.trace.chosen
        by_position = [pattern.window_keys(queries), pattern.column_keys(queries)]
        own = queries // pattern.block
        if pattern.random.shape[1]:
            by_position.append(pattern.block_keys(queries, pattern.random[own]))
        if chosen is not None:
            by_position.append(pattern.block_keys(queries, own[:, None]))
        keys = torch.cat(by_position, -1).expand(len(heads), -1, -1).contiguous()
        if chosen is not None:
            keys = torch.cat([keys, pattern.block_keys(queries, chosen[heads][:, queries])], -1)
        if bool((whole := torch.isin(queries, pattern.full)).any()):
            keys = self._with_full_rows(keys, queries, whole) if self.full_rows else keys.masked_fill(whole[:, None], -1)
        return entries_of_scores(self.sequence.q[heads][:, queries], self.sequence.k[heads], keys, inverse_root(self.sequence.d))

    def _with_full_rows(self, keys: Int[Tensor, "g r c"], queries: Int[Tensor, "r"], whole: Tensor) -> Int[Tensor, "g r w"]:
        n = self.sequence.n
        keys = pad(keys, (0, max(0, n - keys.shape[-1])), value=-1)
        everything = torch.arange(n, device=keys.device)
        row = everything.where(self.sequence.allowed(queries), -1)
        row = pad(row, (0, keys.shape[-1] - n), value=-1)
        return torch.where(whole[:, None], row, keys)

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        full = self.pattern.full
        full = full[(full >= rows[0]) & (full < rows[-1])]
        if not len(full) or not self.full_rows:
            return super()._pooled(rows, columns, reduce, heads)
        # One full row would make every row of its chunk n slots wide, so full rows are pooled apart, as dense rows.
        out = replace(self, full_rows=False)._pooled(rows, columns, reduce, heads)
        tops, sides = (torch.tensor(x, device=out.device) for x in (rows, columns))
        cell = torch.bucketize(torch.arange(columns[0], columns[-1], device=out.device), sides[1:-1], right=True)
        area = (tops.diff()[:, None] * sides.diff()[None, :]).to(out.dtype)
        for chunk in row_chunks(len(full), len(heads) * self.sequence.n):
            weights = self._rows(full[chunk], heads)[..., columns[0] : columns[-1]]
            part = torch.zeros(*weights.shape[:2], len(columns) - 1, dtype=out.dtype, device=out.device)
            row = torch.bucketize(full[chunk], tops[1:-1], right=True)
            if reduce == "mean":
                part = part.scatter_add(2, cell.expand_as(weights), weights)
                out = out.index_add(1, row, part / area[row])
            else:
                part = part.scatter_reduce(2, cell.expand_as(weights), weights, "amax")
                out = out.scatter_reduce(1, row[:, None].expand_as(part), part, "amax")
        return out

    def _read_count(self, head: int, query: int) -> ReadCount:
        keys = super()._read_count(head, query)
        if self.trace.means is None:
            return keys
        scored = int((self._block_scores(head, query) > -torch.inf).sum())
        return ReadCount(count=keys.count + scored, unit="keys and block means")

    def _block_scores(self, head: int, query: int) -> Float[Tensor, "B"]:
        assert self.trace.means is not None
        q = self.sequence.q[head : head + 1, query : query + 1]
        queries = torch.tensor([query], device=q.device)
        return block_scores(q, queries, self.trace.means[head : head + 1], self.pattern)[0, 0]

    def _rank(self, head: int, query: int, block: int) -> tuple[int, int]:
        """The rank of a block among those that the query may choose, 1 for the best, and their number."""
        scores = self._block_scores(head, query)
        better = (scores > scores[block]).sum() + (scores[:block] == scores[block]).sum()
        return int(better) + 1, int((scores > -torch.inf).sum())

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        pattern = self.pattern
        distance, block = abs(query - key), key // pattern.block
        facts: dict[str, float | int | str | bool] = {"distance": distance}
        where = f"{distance} tokens {'back' if key < query else 'ahead'}" if distance else "the query itself"
        i, j = (torch.tensor(x, device=self.output.device) for x in (query, key))
        if bool(pattern.in_window(i, j)):
            reason, facts = WindowReason.IN_WINDOW, {**facts, "width": self.width, "dilation": pattern.dilation}
            text = f"The key is {where}, inside the window of {self.width}."
        elif bool(pattern.is_column(j)):
            place = int((pattern.columns < key).sum()) + 1
            facts = {**facts, "place": place, "of": len(pattern.columns)}
            if self.sinks:
                reason = WindowReason.SINK
                text = f"The key is sink {place} of {len(pattern.columns)}: every query sees it, {where}."
            else:
                facts["whose"] = "key"
                reason = WindowReason.GLOBAL
                text = f"The key is global token {place} of {len(pattern.columns)}: every query sees it, {where}."
        elif query in pattern.full.tolist():
            reason, facts = WindowReason.GLOBAL, {**facts, "whose": "query", "of": len(pattern.full)}
            text = f"The query is one of {len(pattern.full)} global tokens and sees every key, this one {where}."
        elif self.trace.chosen is not None:
            reason, more, text = self._by_block(head, query, block, kept)
            facts = {**facts, **more}
        elif kept:
            own = query // pattern.block
            reason, facts = WindowReason.RANDOM_BLOCK, {**facts, "block": block, "query_block": own}
            text = f"The key is {where}, in block {block}, which was drawn at random for the query's block {own}."
        else:
            reason, more, text = self._out_of_reach(query, key, where)
            facts = {**facts, **more}
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)

    def _by_block(
        self, head: int, query: int, block: int, kept: bool
    ) -> tuple[WindowReason, dict[str, float | int | str | bool], str]:
        assert self.trace.chosen is not None
        if block == query // self.pattern.block:
            text = f"The key stands in the query's own block, number {block}, which it always sees."
            return WindowReason.OWN_BLOCK, {"block": block}, text
        rank, scored = self._rank(head, query, block)
        count = min(self.trace.chosen.shape[-1], scored)
        facts: dict[str, float | int | str | bool] = {"block": block, "rank": rank, "scored": scored, "kept": count}
        place = f"The key stands in block {block}, whose mean key scores {_ordinal(rank)} of {scored} for this query"
        if kept:
            return WindowReason.SELECTED_BLOCK, facts, f"{place}; it keeps the best {count}."
        return WindowReason.NOT_SELECTED, facts, f"{place}, and it keeps only the best {count}."

    def _out_of_reach(self, query: int, key: int, where: str) -> tuple[WindowReason, dict[str, float | int | str | bool], str]:
        pattern = self.pattern
        reach = (pattern.back if key < query else pattern.ahead) * pattern.dilation
        facts: dict[str, float | int | str | bool] = {"width": self.width, "reach": reach}
        drawn = ""
        if pattern.random.shape[1]:
            facts["block"] = key // pattern.block
            drawn = f", and its block {key // pattern.block} was not drawn"
        if abs(query - key) <= reach:
            facts["dilation"] = pattern.dilation
            step = _ordinal(pattern.dilation)
            text = f"The key is {where}, between two steps of a window that takes every {step} token{drawn}."
            return WindowReason.BETWEEN_STEPS, facts, text
        return WindowReason.TOO_FAR, facts, f"The key is {where}, but the window reaches {reach} that way{drawn}."


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
