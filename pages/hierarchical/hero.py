"""One query's mass from paragraph to token, exact attention's above the mechanism's, the text below; and the guess."""

from __future__ import annotations

import numpy as np

from pages.hierarchical.descent import FOCUS, KEY, QUERY, DescentRun, place
from pages.hierarchical.icicle import icicles
from pages.kit import state
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.context import Page
from pages.kit.map_card import explain_pair
from pages.kit.sections import answer, predict
from pages.kit.text import _


def hero(page: Page, descent: DescentRun) -> None:
    """The answer, the icicles with the way back up, and the text; a click goes into a box or chooses a query."""
    answer(page, descent.finding.kind, **descent.numbers)
    query, weights, title = descent.query, "exact", _("Exact attention")
    if not descent.refused:
        weights, title = "mechanism", descent.mechanism.label
        icicles(page, descent)
        key = state.recall(KEY, None, place)
        if key is not None and key < page.tokens:
            explain_pair(page, descent.mechanism, query, key, descent.tokens)
    token_text(
        TextPicture(
            tokens=descent.tokens,
            weights=descent.result.arrays[weights],
            selected=query,
            causal_from=query if page.causal else None,
        ),
        key="hierarchical text",
        theme=page.theme,
        height=168,
        on_token=_look_back_from,
        caption=_("{title}: what the framed word gives each token. Click a word to let it look back.").format(title=title),
        alt=_("The text, tinted by the weights of token {query}.").format(query=query),
    )


def _look_back_from(token: int) -> None:
    state.put({QUERY: str(token)})
    state.forget(KEY)
    state.forget(FOCUS)


def guess(page: Page, descent: DescentRun) -> None:
    """A question before its answer: how many descents arrive; where no word has a target, how much one query reads."""
    if descent.refused:
        return
    if descent.finding.targets:
        arrive = descent.finding.arrive_share
        predict(
            page,
            "arrive",
            [_("under a quarter"), _("a quarter to three quarters"), _("over three quarters")],
            right=0 if arrive < 0.25 else 1 if arrive <= 0.75 else 2,
            **descent.numbers,
        )
        return
    items = len(descent.result.tables["items"])
    visible = int((~np.isnan(descent.result.arrays["exact"])).sum())
    part = items / visible
    predict(
        page,
        "read",
        [_("under a tenth as many"), _("a tenth to a half"), _("more than half as many")],
        right=0 if part < 0.1 else 1 if part <= 0.5 else 2,
        items=items,
        visible=visible,
        part=part,
        **descent.numbers,
    )
