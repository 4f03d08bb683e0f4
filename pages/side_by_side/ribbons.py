"""The ribbons of a comparison: their rows, the tokens under them, their table and their caption."""

from __future__ import annotations

import numpy as np
import pandas as pd

from longattn_core.charts.cells import RibbonRow, pool_cells
from longattn_core.charts.pictures import RibbonsPicture
from longattn_core.studies.base.study import Result
from longattn_core.studies.side_by_side.compare import Compare
from longattn_core.studies.side_by_side.finding import ComparisonFinding
from pages.kit.components.ribbons import MOST_TOKENS
from pages.kit.context import Page
from pages.kit.page import decimal
from pages.kit.query_run import spaced_tokens
from pages.kit.text import _

UNMASKED = "unmasked reading: the model never saw this"


def ribbons_picture(page: Page, result: Result, revealed: bool) -> RibbonsPicture:
    """The ribbons of a comparison; before the reveal all but exact attention's are hidden."""
    tokens = _tokens(result)
    query, marked = _drawn_places(result, len(tokens))
    return RibbonsPicture(rows=_rows(result, page, revealed), tokens=tokens, query=query, marked=marked, causal=page.causal)


def _drawn_places(result: Result, drawn: int) -> tuple[int, int]:
    """Query and marked key among the drawn cells, which are fewer than the tokens of a very long sequence."""
    n = len(result.arrays["tokens"])
    query, marked = (int(result.arrays[name]) * drawn // n for name in ("query", "marked"))
    return query, marked


def _tokens(result: Result) -> list[str]:
    """The tokens as they are joined to a text, at most `MOST_TOKENS` of them, evenly spaced."""
    tokens = spaced_tokens(result)
    if len(tokens) <= MOST_TOKENS:
        return tokens
    places = np.arange(MOST_TOKENS) * len(tokens) // MOST_TOKENS
    return [tokens[place] for place in places]


def _rows(result: Result, page: Page, revealed: bool) -> list[RibbonRow]:
    weights = result.arrays["weights"]
    if weights.shape[1] > MOST_TOKENS:
        weights = pool_cells(weights, (len(weights), MOST_TOKENS), "max")
    rows = []
    for index, record in enumerate(result.tables["mechanisms"].to_dict("records")):
        refused = record["refusal"]
        facts = (
            ()
            if refused
            else (
                (_("looked at"), f"{int(record['looked']):,} {_(record['unit'].partition(',')[0])}"),
                (_("overlap"), "–" if pd.isna(record["overlap"]) else decimal(record["overlap"])),
            )
        )
        badges = [] if record["parameters"] == "none" else [record["parameters"]]
        if not page.causal:
            badges.append(UNMASKED)
        rows.append(
            RibbonRow(
                key=row_key(result, index),
                title=record["label"],
                weights=None if refused else weights[index],
                facts=facts,
                badges=tuple(badges),
                refusal=refused,
                hidden=not revealed and record["key"] != "exact",
            )
        )
    return rows


def row_key(result: Result, index: int) -> str:
    """A ribbon's own name: the mechanism's key, with a number where a mechanism stands on several ribbons."""
    keys = list(result.tables["mechanisms"]["key"])
    earlier = keys[:index].count(keys[index])
    return keys[index] if earlier == 0 else f"{keys[index]}:{earlier}"


def weights_table(result: Result) -> pd.DataFrame:
    """The ribbons as a table: a row a token, a column a mechanism; empty where a key was never looked at."""
    tokens = result.arrays["tokens"]
    columns = {"position": np.arange(len(tokens)), "token": tokens}
    for index, label in enumerate(result.tables["mechanisms"]["label"]):
        columns[label] = result.arrays["weights"][index]
    table = pd.DataFrame(columns)
    table.attrs["units"] = {"position": "token"} | dict.fromkeys(result.tables["mechanisms"]["label"], "share")
    return table


def ribbons_caption(result: Result, finding: ComparisonFinding) -> str:
    """The caption of the figure in print."""
    tokens, query = result.arrays["tokens"], int(result.arrays["query"])
    return (
        f"Attention of the token “{str(tokens[query]).strip()}” (position {query}) over {finding.visible} visible tokens, "
        f"with about {result.study_as(Compare).keys} keys or features a mechanism "
        f"(logarithmic colours; grey: never looked at). {result.words['origin']}."
    )
