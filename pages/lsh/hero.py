"""The strips of the hashing page: one pair followed from the text through the sort and back, and the text in its buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.figures.strips import strips_chart
from longattn_core.charts.pictures import StripsPicture
from longattn_core.mechanisms.lsh import LSH
from longattn_core.studies.base.run import why
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.lsh.directions import LshAngles
from longattn_core.studies.lsh.finding import Directions, HashingFinding, directions_finding, hashing_finding
from longattn_core.studies.lsh.strips import HERE, LshStrips
from pages.kit import state
from pages.kit.components.strips import MOST_TOKENS, Strip, strips
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.query_run import QueryRun, outside
from pages.kit.sections import answer, predict
from pages.kit.text import _, escaped, ngettext, prose, token_count

SAME = 0.05
"""Weight found within this of each other is called about the same."""


@dataclass(frozen=True, kw_only=True)
class HashingRun(QueryRun):
    """One run of the page: the mechanism, the strips' result, and what they say."""

    mechanism: LSH
    finding: HashingFinding

    @property
    def marked(self) -> int:
        """The key that is followed."""
        return int(self.result.arrays["marked"])

    @property
    def round(self) -> int:
        """The round that is shown, from 1."""
        return int(self.result.arrays["round"])

    @property
    def outside(self) -> str:
        """The words that say that sinks are left out, where the head has any."""
        count = 0 if self.refused else int(self.result.tables["agreement"]["sinks"].iloc[0])
        return outside(count)

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that the page's sentences may name."""
        return {
            "buckets": self.mechanism.buckets,
            "bucket_words": bucket_words(self.mechanism.buckets),
            "rounds": rounds_words(self.mechanism.rounds),
            "recall": self.finding.recall,
            "share": self.finding.share,
            "outside": self.outside,
            "error": self.finding.error,
            "control": self.finding.control,
        }


def rounds_words(count: int) -> str:
    """A count of rounds in words."""
    return ngettext("one round", "{count} rounds", count).format(count=count)


def bucket_words(count: int) -> str:
    """A count of buckets in words."""
    return ngettext("one bucket", "{count} buckets", count).format(count=count)


def hashing_run(page: Page, mechanism: LSH) -> HashingRun:
    """Run one round of the strips, for the round, the query and the key that were chosen."""
    study = LshStrips(
        source=page.source,
        setting=Setting.of(mechanism),
        round=_round(mechanism),
        query=_place(page, "query"),
        marked=_place(page, "key"),
    )
    result = run(study)
    return HashingRun(mechanism=mechanism, result=result, finding=hashing_finding(result))


def _round(mechanism: LSH) -> int:
    return min(max(1, state.recall("lsh.round", 1, int)), mechanism.rounds)


def _place(page: Page, name: str) -> int | None:
    place = state.recall(f"lsh.{name}", None, int)
    return place if place is not None and 0 <= place < min(page.tokens, 65536) else None


def hero(page: Page, hashed: HashingRun) -> None:
    """The answer, the strips with a choice of the round, and the text in the colours of its buckets."""
    finding = hashed.finding
    if hashed.refused:
        answer(page, "refused", reason=hashed.result.words["refusal"])
        return
    pair = prose(
        "lsh",
        f"pair_{finding.pair}",
        query=hashed.name(hashed.query),
        key=hashed.name(hashed.marked),
        weight=finding.weight,
        distance=token_count(finding.distance),
        found=finding.found,
    )
    answer(page, finding.kind, pair=pair, **hashed.numbers)
    n = page.tokens
    if hashed.mechanism.rounds > 1:
        rounds = [str(number) for number in range(1, hashed.mechanism.rounds + 1)]
        state.choose(
            "lsh.round",
            _("Round shown"),
            rounds,
            default="1",
            style="segments" if len(rounds) <= 8 else "select",
            help=_("Each round draws new random axes. The pair is found when it meets in one of them."),
            view=True,
        )
    if n > MOST_TOKENS:
        st.info(prose("lsh", "text_long", most=MOST_TOKENS))
    else:
        shown_strips(page, hashed, four(hashed), key="lsh strips", alt=_alt(hashed))
        _menu(page, hashed)
    _explained(page, hashed)
    worse = "error_better" if finding.error < finding.control else "error_worse"
    st.caption(prose("lsh", worse, **hashed.numbers))
    if n <= MOST_TOKENS and not page.presenting:
        _text(page, hashed)


def _explained(page: Page, hashed: HashingRun) -> None:
    """Why the tracked pair was found or missed."""
    said = why(page.source, hashed.mechanism, 0, hashed.query, hashed.marked)
    if isinstance(said, str):
        return
    weights = _("exact weight {exact:.3g}, hashing's {weight:.3g}").format(exact=said.exact, weight=said.weight)
    pair = f"{hashed.name(hashed.query)} ({hashed.query}) → {hashed.name(hashed.marked)} ({hashed.marked})"
    st.info(f"{pair} · {weights}  \n{escaped(said.text)}", icon=":material/help:")


def four(hashed: HashingRun) -> tuple[Strip, ...]:
    """The four strips: text, sorted, looked at, back."""
    chunk = hashed.mechanism.chunk if hashed.mechanism.order_by == "chunks" else 0
    looks = _("chunks: what the query looks at") if chunk else _("the query's stretch of its bucket")
    return (
        Strip(name=_("the text"), hint=_("each key in the colour of its bucket")),
        Strip(name=_("sorted"), hint=_("by bucket, then by position"), sorted=True),
        Strip(name=looks, hint=_("tall: looked at in this round"), sorted=True, lit="stretch", chunk=chunk),
        Strip(name=_("back in the text"), hint=_("tall: found"), lit="found"),
    )


def strips_picture(page: Page, hashed: HashingRun) -> StripsPicture:
    """The round at hand with the pair that is followed."""
    arrays = hashed.result.arrays
    return StripsPicture(
        tokens=hashed.spaced,
        buckets=arrays["key_buckets"],
        order=arrays["order"],
        found=arrays["found"],
        exact=arrays["exact"],
        query=hashed.query,
        marked=hashed.marked,
        query_bucket=int(arrays["query_buckets"][hashed.query]),
        place=int(arrays["place"]),
        stretches=arrays["stretches"],
        causal=page.causal,
    )


def shown_strips(page: Page, hashed: HashingRun, shown: tuple[Strip, ...], *, key: str, alt: str, gap: int = 22) -> None:
    """Some of the strips of this run; a click on a token makes it the key that is followed."""
    strips(
        shown,
        strips_picture(page, hashed),
        key=key,
        theme=page.theme,
        gap=gap,
        alt=alt,
        on_token=lambda token: state.remember("lsh.key", token),
    )


def _text(page: Page, hashed: HashingRun) -> None:
    arrays = hashed.result.arrays
    buckets = arrays["key_buckets"]
    names = {int(bucket): _("bucket {number}").format(number=int(bucket)) for bucket in np.unique(buckets) if bucket >= 0}
    mine = arrays["query_buckets"]
    token_text(
        TextPicture(
            tokens=hashed.spaced,
            groups=buckets,
            group_names=names,
            notes=[_("as a query: bucket {number}").format(number=int(bucket)) for bucket in mine],
            selected=hashed.query,
            causal_from=hashed.query if page.causal else None,
        ),
        key="lsh text",
        theme=page.theme,
        height=170,
        caption=prose("lsh", "text", round=hashed.round),
        on_token=_look_back_from,
    )


def _look_back_from(token: int) -> None:
    state.remember("lsh.query", token)
    state.remember("lsh.key", None)


def _menu(page: Page, hashed: HashingRun) -> None:
    figure_menu(
        "hashing-strips",
        hashed.result,
        shown=LSH,
        chart=lambda: strips_chart(strips_picture(page, hashed), page.theme),
        table=lambda: strips_table(hashed.result),
        caption=f"{_alt(hashed)} {hashed.result.words['origin']}",
    )


def strips_table(result: Result) -> pd.DataFrame:
    """Every token of the strips: its buckets, its place after the sort, and whether the query found it."""
    arrays = result.arrays
    order = arrays["order"]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    table = pd.DataFrame(
        {
            "position": np.arange(len(order)),
            "token": arrays["tokens"],
            "key bucket": arrays["key_buckets"],
            "query bucket": arrays["query_buckets"],
            "place after the sort": rank,
            "found in this round": arrays["found"] == HERE,
            "found": arrays["found"] > 0,
            "exact weight": arrays["exact"],
            "weight": arrays["weights"],
        }
    )
    table.attrs["units"] = {"position": "token", "exact weight": "share", "weight": "share", "place after the sort": "token"}
    return table


def _alt(hashed: HashingRun) -> str:
    tokens = hashed.result.arrays["tokens"]
    pair = hashed.result.tables["rounds"].iloc[hashed.round - 1]
    looked = int((hashed.result.arrays["found"] == HERE).sum())
    return _(
        "Four strips of {n} keys in round {round} of {rounds}: in the text's order, sorted into {buckets} buckets, what the "
        "query looks at, and back in the text. The query “{query}” is in bucket {mine}, the key “{key}” in bucket {its}; "
        "the query looks at {looked} keys in this round."
    ).format(
        n=len(tokens),
        round=hashed.round,
        rounds=hashed.mechanism.rounds,
        buckets=hashed.mechanism.buckets,
        query=str(tokens[hashed.query]).strip(),
        key=str(tokens[hashed.marked]).strip(),
        mine=int(pair["query bucket"]),
        its=int(pair["key bucket"]),
        looked=looked,
    )


def guess(page: Page, hashed: HashingRun) -> None:
    """Guess what centring does to this head, before it is said. What is right is computed once somebody has guessed."""
    if hashed.refused:
        return
    name = "centring_off" if hashed.mechanism.centred else "centring_on"
    options = [_("more"), _("about the same"), _("less")]
    if state.recall(f"lsh.guess.{name}", None, int) is None:
        predict(page, name, options, 0, **hashed.numbers)
        return
    other = hashed.mechanism.with_dials(centred=not hashed.mechanism.centred)
    there = hashing_finding(run(LshStrips(source=page.source, setting=Setting.of(other))))
    change = there.recall - hashed.finding.recall
    right = 0 if change > SAME else 2 if change < -SAME else 1
    why = why_centring(directions(page))
    predict(page, name, options, right, there=there.recall, there_share=there.share, why=why, **hashed.numbers)


def directions(page: Page) -> Directions:
    """Where this head's queries stand to its keys."""
    return directions_finding(run(LshAngles(source=page.source)))


def why_centring(finding: Directions) -> str:
    """The sentence about the head's directions."""
    return prose(
        "lsh",
        finding.kind,
        key_key=finding.key_key,
        query_key=finding.query_key,
        weighted_angle=finding.weighted_angle,
        centred_weighted_angle=finding.centred_weighted_angle,
    )
