"""Views of the map: parts, pooled maps, explanations and read counts say the same as the rows."""

from __future__ import annotations

import itertools
import math
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.indexing import edges
from longattn_core.contracts.mechanism import Attended, Mechanism, Reduce
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.testing.check import expect, expect_close, of_sequences, reading
from longattn_core.testing.sequences import Given

WHOLE = Given(n=130, padding="holes")


@of_sequences(WHOLE)
def parts_of_the_map_are_parts_of_the_whole(setting: Mechanism, sequence: Sequence) -> None:
    """`rows`, `kept` and `rows_and_kept` of some queries, keys and heads are those parts of the whole map."""
    found, n, last = reading(setting, sequence), sequence.n, sequence.h - 1
    attended, rows, kept = found.attended, found.rows, found.kept
    queries, keys = [n // 18, n - 1 - n // 14], slice(n // 40, max(1, n // 40 + 47))
    part = attended.rows(queries, keys, last)
    expect_close(part, rows[last:, queries, keys], "a part of the rows to be that part of all rows", rtol=1e-12, atol=1e-12)
    expect(
        torch.equal(attended.kept(queries, keys, last), kept[last:, queries, keys]),
        "a part of the kept pairs to be that part of all",
    )
    for none in (attended.rows([]), attended.kept([]), *attended.rows_and_kept([])):
        expect(none.shape == (len(rows), 0, n), f"no queries to give shape {[len(rows), 0, n]}, found {list(none.shape)}")
    both = attended.rows_and_kept(queries, last)
    expect(torch.equal(both[0], attended.rows(queries, heads=last)), "rows_and_kept to give the rows that `rows` gives")
    expect(torch.equal(both[1], attended.kept(queries, heads=last)), "rows_and_kept to give the pairs that `kept` gives")


@of_sequences(WHOLE)
def pooled_maps_are_pooled_rows(setting: Mechanism, sequence: Sequence) -> None:
    """A cell of a pooled map is the mean, or the largest, of the weights that it joins."""
    found, n = reading(setting, sequence), sequence.n
    windows: tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]], ...] = (
        ((0, n), (0, n), (13, 7)),
        (_window(n, 0.31, 0.75), _window(n, 0.04, 0.47), (9, 200)),
        ((n - 1, n), (0, min(3, n)), (4, 1)),
    )
    reductions: tuple[Reduce, ...] = ("mean", "max")
    for (queries, keys, shape), reduce in itertools.product(windows, reductions):
        pooled = found.attended.pooled(queries, keys, shape, reduce)
        expected = pooled_rows(found.rows, edges(*queries, shape[0]), edges(*keys, shape[1]), reduce)
        what = f"the {reduce} of each cell of queries {queries} and keys {keys} in at most {shape} cells"
        expect_close(pooled, expected, what, rtol=1e-9, atol=1e-11)


def pooled_rows(rows: Float[Tensor, "g r n"], tops: list[int], sides: list[int], reduce: Reduce) -> Float[Tensor, "g H W"]:
    """The mean or the largest of each cell of a whole map, from the definition."""
    pooled = rows.new_empty(len(rows), len(tops) - 1, len(sides) - 1)
    for row, (top, bottom) in enumerate(itertools.pairwise(tops)):
        for column, (left, right) in enumerate(itertools.pairwise(sides)):
            cell = rows[:, top:bottom, left:right]
            pooled[:, row, column] = cell.mean((1, 2)) if reduce == "mean" else cell.amax((1, 2))
    return pooled


def _window(n: int, start: float, stop: float) -> tuple[int, int]:
    """A window of at least one token, by shares of the sequence."""
    first = min(n - 1, round(start * n))
    return first, max(first + 1, round(stop * n))


@of_sequences(Given(n=34, padding="holes"))
def explanations_say_what_the_map_says(setting: Mechanism, sequence: Sequence) -> None:
    """An explanation has the pair's weight, its exact weight and whether it is kept; its text is a sentence."""
    found, head, n = reading(setting, sequence), sequence.h - 1, sequence.n
    exact = exact_rows(sequence)
    # A third of the keys, and another third for the next query: so every kind of pair occurs, near and far, past and future.
    step = max(3, n // 11)
    for query in range(0, n, step):
        for key in range(query // step % step, n, step):
            pair = head, query, key
            _expect_explanation(found.attended, pair, bool(found.kept[pair]), float(found.rows[pair]), float(exact[pair]))
    for outside in ((sequence.h, 0, 0), (0, n, 0), (0, 0, -1)):
        try:
            found.attended.explain(*outside)
        except ValueError as error:
            expect("must lie in 0" in str(error), f"a ValueError that says what must lie in 0 … n, found {error}")
        else:
            expect(False, f"a ValueError for head, query and key {outside}")


def _expect_explanation(attended: Attended, at: tuple[int, int, int], kept: bool, weight: float, exact: float) -> None:
    said = attended.explain(*at)
    pair = f"the pair of query {at[1]} and key {at[2]}"
    expect(said.kept == kept, f"{pair} to be explained as {'kept' if kept else 'dropped'}: {said}")
    for name, value, truth in (("weight", said.weight, weight), ("exact weight", said.exact, exact)):
        close = math.isclose(value, truth, rel_tol=1e-9, abs_tol=1e-12)
        expect(close, f"{pair} to be explained with the {name} {truth:.6g}, found {value:.6g}")
    proper = said.text.endswith(".") and "nan" not in said.text and "tensor" not in said.text
    expect(proper, f"{pair} to be explained in a sentence, found {said.text!r}")
    expect(isinstance(said.reason, StrEnum), f"{pair} to have a reason, a StrEnum, found {said.reason!r}")
    plain = all(isinstance(fact, float | int | str | bool) for fact in said.facts.values())
    expect(plain, f"{pair} to have facts that are plain numbers or texts, found {dict(said.facts)}")


@of_sequences(Given(n=100))
def read_counts_are_those_of_the_kept_pairs(setting: Mechanism, sequence: Sequence) -> None:
    """A query reads at least one key; where keys are counted, as many as it keeps."""
    found, n = reading(setting, sequence), sequence.n
    for query in sorted({0, min(1, n - 1), n // 2, n - 1}):
        read, kept = found.attended.read_count(0, query), int(found.kept[0, query].sum())
        expect(read.count >= 1, f"query {query} to read at least one key, found {read}")
        expect(read.unit != "keys" or read.count == kept, f"query {query} to read the {kept} keys that it keeps, found {read}")
