"""The window page: ledgers against loops from the definition, closed forms, sentence rules, examples, swaps in the model."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from longattn_core.charts.figures import window as charts
from longattn_core.charts.style.theme import Theme
from longattn_core.contracts.sequence import exact_rows
from longattn_core.language_model.weights import weights_available
from longattn_core.measures.spread import find_sinks
from longattn_core.mechanisms.window import Window
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.studies.base.study import Result, Setting, sequence_of
from longattn_core.studies.window.active_queries import BOTH, NEITHER, ONLY_EXACT, ONLY_SAMPLED, ActiveQueries
from longattn_core.studies.window.finding import active_finding, ledger_finding, swap_finding
from longattn_core.studies.window.ledger import MOST, PARTS, Ledger
from longattn_core.studies.window.patterns import Patterns, patterns
from longattn_core.studies.window.reach import WindowReach
from longattn_core.studies.window.swaps import LONGEST, SwapPoint, Swaps, candidates, perplexity, text_of
from longattn_core.studies.window.widths import WindowWidths
from pages.kit.text import sections
from pages.window.step import STEPS

model = [pytest.mark.model, pytest.mark.skipif(not weights_available(), reason="the language model is not installed")]
ROOT = Path(__file__).parents[2]
WINDOW, FIRST, BLOCKS, LOST_SINKS, LOST = range(5)


def source(kind="gaussian", n=70, causal=True, **dials):
    return SyntheticSource.model_validate({"settings": {"kind": kind, "n": n, "causal": causal, "seed": 3, **dials}})


def window(**dials):
    return Setting(key="window", dials={"width": 9, **dials})


def part_by_hand(built, query, key, n, *, causal, random, chosen):
    """Which part of the pattern holds the pair, word for word; None where it does not see it."""
    lag = query - key
    back = (built.width - 1 if causal else built.width // 2) * built.dilation
    ahead = 0 if causal else built.width // 2 * built.dilation
    sliding = built.variant != "selected" or built.windowed
    if sliding and lag % built.dilation == 0 and -ahead <= lag <= back:
        return WINDOW
    first = {"sinks": built.sinks, "global": built.global_tokens, "bigbird": built.global_tokens}.get(built.variant, 0)
    own, block = query // built.block, key // built.block
    if not sliding and own == block:
        return WINDOW
    if key < first:
        return FIRST
    if built.variant in ("global", "bigbird") and query < first:
        return BLOCKS
    if built.variant == "bigbird" and block in random[own]:
        return BLOCKS
    if built.variant == "selected" and (own == block or block in chosen[query]):
        return BLOCKS
    return None


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "dials",
    [
        {"variant": "sliding"},
        {"variant": "sinks", "sinks": 3},
        {"variant": "global", "global_tokens": 2},
        {"variant": "bigbird", "block": 8, "random_blocks": 2},
        {"variant": "selected", "block": 8, "selected_blocks": 2},
        {"variant": "selected", "block": 8, "selected_blocks": 2, "windowed": True},
        {"variant": "sinks", "dilation": 4},
    ],
    ids=str,
)
def test_the_ledger_adds_up_what_the_definition_gives_each_part(dials, causal):
    study = Ledger(source=source("sink" if causal else "gaussian", causal=causal), setting=window(**dials), query=66)
    result, built = study.run(), study.setting.build()
    sequence = sequence_of(study.source)
    attended = built.attend(sequence)
    random = attended.trace.random.tolist() or [[]] * 70
    chosen = [] if attended.trace.chosen is None else attended.trace.chosen[0].tolist()
    exact = exact_rows(sequence)[0].double().numpy()
    sinks = set(find_sinks(sequence)[0])
    shares = np.zeros((70, 5))
    for query in range(70):
        for key in range(query + 1 if causal else 70):
            part = part_by_hand(built, query, key, 70, causal=causal, random=random, chosen=chosen)
            if part is None:
                part = LOST_SINKS if key in sinks else LOST
            shares[query, part] += exact[query, key]
    np.testing.assert_array_equal(result.arrays["queries"], np.arange(70))
    np.testing.assert_allclose(result.arrays["shares"], shares, atol=1e-9)
    # Rows of exact attention are float32.
    np.testing.assert_allclose(result.arrays["shares"].sum(1), 1, atol=1e-5)
    parts = [part_by_hand(built, 66, key, 70, causal=causal, random=random, chosen=chosen) for key in range(70)]
    seen_by = [-1 if causal and key > 66 else LOST if part is None else part for key, part in enumerate(parts)]
    np.testing.assert_array_equal(result.arrays["seen by"], seen_by)
    long = result.tables["ledger"]
    assert long.groupby("query")["share"].sum().to_numpy() == pytest.approx(np.ones(70), abs=1e-5)
    assert bool(result.arrays["seen"]) == (seen_by[int(result.arrays["marked"])] != LOST)


def test_sinks_are_told_apart_where_the_head_has_some():
    found = Ledger(source=source("sink", n=120), setting=window(variant="sliding")).run()
    assert len(found.arrays["sinks"])
    assert found.arrays["shares"][:, LOST_SINKS].mean() > 0.05
    kept = Ledger(source=source("sink", n=120), setting=window(variant="sinks", sinks=4)).run()
    assert set(kept.arrays["sinks"]) <= set(range(4))
    assert kept.arrays["shares"][:, LOST_SINKS].max() == 0


def test_a_long_text_is_sampled_and_the_asked_query_is_in_the_ledger():
    result = Ledger(source=source(n=1300, d=4), setting=window(), query=777).run()
    queries = result.arrays["queries"]
    assert len(queries) == MOST
    assert 777 in queries
    assert (np.diff(queries) > 0).all()
    assert result.arrays["shares"].shape == (MOST, len(PARTS))


def test_another_mechanism_keeps_no_ledger():
    with pytest.raises(ValueError, match=r"reads Sliding window.*not Locality-sensitive hashing"):
        Ledger(source=source(), setting=Setting(key="lsh")).run()


# ------------------------------------------------------------------------------------------------ widths, patterns, reach


def test_widths_count_pairs_as_the_closed_form_and_end_at_exact():
    result = WindowWidths(source=source(n=64)).run()
    points = result.tables["points"]
    alone = points[points["pattern"] == "window alone"]
    for row in alone.itertuples():
        pairs = 64 * row.width - row.width * (row.width - 1) / 2
        assert row.share == pytest.approx(pairs / (64 * 65 / 2), abs=1e-9)
    assert (np.diff(alone["recall"]) > 0).all()
    assert alone["error"].iloc[-1] < 1e-5
    assert float(result.words["control"]) == pytest.approx(alone["control"].iloc[0], rel=1e-5)
    curves = result.tables["curves"]
    assert set(curves["curve"]) == {"window alone", "window + 4 first tokens", "outside the sinks", "pairs looked at (chance)"}
    assert set(curves[curves["chance"]]["curve"]) == {"pairs looked at (chance)"}


def test_patterns_stand_at_one_budget_and_their_pictures_hold_their_pairs():
    result = Patterns(source=source(n=96), keys=16).run()
    table, seen = result.tables["patterns"], result.arrays["seen"]
    assert {name for name, _section in STEPS} <= set(table["name"])
    allowed = np.tril(np.ones((96, 96), dtype=bool))
    for index, row in enumerate(table.itertuples()):
        picture = seen[index]
        assert np.isnan(picture[~allowed]).all()
        # With 96 tokens a cell is a pair: the picture's sum is the number of pairs that were looked at.
        assert np.nansum(picture) / allowed.sum() == pytest.approx(row.share, abs=1e-6)
    windows = table[table["key"] == "window"]
    assert windows["share"].max() < 3 * windows["share"].min()


@pytest.mark.parametrize(("keys", "n"), [(4, 1), (4, 2), (64, 8), (64, 8192)])
def test_patterns_can_be_had_at_every_length(keys, n):
    assert len(patterns(min(keys, n), n)) == 9


def test_reach_is_layers_times_what_one_reaches():
    table = WindowReach(source=source(n=500), width=60).run().tables["reach"]
    own = table[table["now"]].set_index("layers")["tokens"]
    assert (own[1], own[3], own[30]) == (59, 3 * 59, 499)


# ------------------------------------------------------------------------------------------------ ProbSparse


def test_active_queries_are_those_whose_scores_stand_out():
    study = ActiveQueries(source=source(n=80), setting=Setting(key="probsparse", dials={"factor": 3.0}))
    result = study.run()
    table = result.tables["queries"]
    sequence = sequence_of(study.source)
    scores = (sequence.q[0].double() @ sequence.k[0].double().mT).numpy() / math.sqrt(sequence.d)
    measure = np.array([scores[i, : i + 1].max() - scores[i, : i + 1].mean() for i in range(80)])
    np.testing.assert_allclose(table["exact"], measure, atol=1e-5)
    for i in range(80):
        kept = max(1, math.floor(3.0 * math.log(i + 1))) if i else 1
        rank = 1 + sum(measure[j] >= measure[i] for j in range(i))
        assert bool(table["rightful"][i]) == (rank <= min(kept, i + 1))
    for row in table.itertuples():
        expected = {(True, True): BOTH, (False, True): ONLY_EXACT, (True, False): ONLY_SAMPLED, (False, False): NEITHER}
        assert row.verdict == expected[(row.active, row.rightful)]
    assert active_finding(result).both == int((table["active"] & table["rightful"]).sum())


def test_when_all_attend_the_output_is_exact():
    found = active_finding(ActiveQueries(source=source(n=40), setting=Setting(key="probsparse", dials={"queries": 40})).run())
    assert found.kind == "all"
    assert found.error < 1e-6


@pytest.mark.parametrize(
    ("active", "rightful", "both", "kind"), [(20, 20, 15, "finds"), (20, 20, 5, "misses"), (60, 60, 42, "misses")]
)
def test_finding_active_queries_is_more_than_chance(active, rightful, both, kind):
    rows = np.zeros((100, 2), dtype=bool)
    rows[:both] = True
    rows[both:active, 0] = True
    rows[active : active + rightful - both, 1] = True
    table = pd.DataFrame(rows[:100], columns=["active", "rightful"])
    agreement = pd.DataFrame({"measure": ["sampled"], "error": [1.0], "control": [1.2]})
    found = active_finding(Result(study=ActiveQueries(source=source()), tables={"queries": table, "agreement": agreement}))
    assert (found.kind, found.chance) == (kind, active / 100)


# ------------------------------------------------------------------------------------------------ sentences


def made_up(shares, recall, share, *, seen=False):
    table = np.tile(np.array(shares, dtype=float), (4, 1))
    agreement = pd.DataFrame(
        {
            "which": ["whole", "without sinks"],
            "recall": [0.9, recall],
            "share": [share, share],
            "error": [0.5, 0.4],
            "control": [1.2, 1.1],
        }
    )
    arrays = {
        "shares": table,
        "queries": np.arange(4),
        "query": np.array(3),
        "marked": np.array(1),
        "weight": np.array(0.7),
        "seen": np.array(seen),
    }
    return Result(study=Ledger(source=source()), arrays=arrays, tables={"agreement": agreement})


@pytest.mark.parametrize(
    ("shares", "recall", "share", "kind"),
    [
        ((1, 0, 0, 0, 0), 1.0, 1.0, "everything"),
        ((0.9, 0.08, 0, 0, 0.02), 0.95, 0.2, "enough"),
        ((0.2, 0.55, 0, 0, 0.25), 0.28, 0.23, "sink"),
        ((0.2, 0, 0, 0.5, 0.3), 0.25, 0.22, "chance"),
        ((0.3, 0.1, 0, 0, 0.6), 0.45, 0.2, "misses"),
    ],
)
def test_what_a_ledger_is_called(shares, recall, share, kind):
    found = ledger_finding(made_up(shares, recall, share))
    assert found.kind == kind
    assert found.asked_lost == pytest.approx(shares[3] + shares[4])
    assert (found.near, found.first, found.lost) == pytest.approx((shares[0], shares[1], shares[3] + shares[4]))
    assert found.asked == "lost"
    assert ledger_finding(made_up(shares, recall, share, seen=True)).asked == "seen"


def swapped(*rows, whole=True):
    table = pd.DataFrame(rows, columns=["name", "key", "perplexity", "probability"])
    study = Swaps(source=source())
    if whole:
        missing = [(name, "window", 999.0, 0.0) for name in dict(candidates(60, 4)) if name not in set(table["name"])]
        table = pd.concat([table, pd.DataFrame(missing, columns=table.columns)], ignore_index=True)
    return swap_finding(Result(study=study, tables={"swaps": table}))


def test_perplexity_hides_when_it_is_near_and_the_fact_is_gone():
    exact = ("exact", "exact", 29.0, 0.9)
    hides = swapped(exact, ("window 380 + 4 sinks", "window", 32.0, 0.0), ("window 60", "window", 80.0, 0.0))
    assert (hides.kind, hides.name, hides.perplexity, hides.probability) == ("hides", "window 380 + 4 sinks", 32.0, 0.0)
    kept = swapped(exact, ("window 380 + 4 sinks", "window", 32.0, 0.6))
    assert (kept.kind, kept.name) == ("shows", "window 380 + 4 sinks")
    assert swapped(("exact", "exact", 29.0, 0.3), ("window 60", "window", 30.0, 0.0)).kind == "unsure"
    assert swapped(("window 60", "window", 30.0, 0.0)).kind == "waiting"
    assert swapped(exact, ("window 380 + 4 sinks", "window", 32.0, 0.6), whole=False).kind == "waiting"
    assert math.isnan(swapped(exact, whole=False).combined)


def test_every_kind_has_its_sentence():
    prose = set(sections("window"))
    assert {f"answer_{kind}" for kind in ("enough", "sink", "misses", "chance", "everything", "refused")} <= prose
    assert {"asked_seen", "asked_lost", "swap_hides", "swap_shows", "swap_unsure", "swaps_own", "swaps_story"} <= prose
    assert {f"active_{kind}" for kind in ("finds", "misses", "all")} <= prose
    assert {f"step_{section}" for _name, section in STEPS} <= prose


# ------------------------------------------------------------------------------------------------ swaps


def test_perplexity_is_the_inverse_geometric_mean_of_the_chances():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1.0, 1.0, 1.0]]))
    # Token 1 had a chance of .25, token 2 of .8: √(1/(.25·.8)).
    assert perplexity(logits, (0, 1, 2)) == pytest.approx(math.sqrt(1 / (0.25 * 0.8)), rel=1e-6)
    assert math.isnan(perplexity(logits[:1], (0,)))


def test_what_is_swapped_in_and_on_which_text():
    names = [name for name, _mechanism in candidates(60, 4)]
    assert names[0] == "exact"
    assert {"hash 16 × 4", "hash + 4 sinks + window 16", "window 16 + 4 sinks", "window 380 + 4 sinks"} <= set(names)
    assert names.count("hash 16 × 4") == 3
    assert len(dict(candidates(16, 4))) == 6, "a setting of the visitor that is one of ours stands there once"
    assert text_of(TextSource(text="One two.", length=4096)) == ("One two.", LONGEST)
    assert text_of(TextSource(text="One two.", length=64))[1] == 64
    assert text_of(source())[0] == TextSource(sample="story.txt").content()


# ------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_picture_is_drawn(mode):
    theme = Theme(mode=mode)
    ledger = Ledger(source=source("sink"), setting=window(variant="sliding")).run()
    chart = charts.ledger_chart(ledger.tables["ledger"], theme, query=69, token="a\nb")
    data = next(iter(chart.to_dict()["datasets"].values()))
    by_query = pd.DataFrame([row for rows in chart.to_dict()["datasets"].values() for row in rows if "part" in row]).groupby(
        "query"
    )
    assert len(data)
    # Stacked from 0 to 1 without a gap or an overlap.
    assert by_query["from"].min().max() == pytest.approx(0, abs=1e-9)
    assert by_query["to"].max().min() == pytest.approx(1, abs=1e-5)
    widths = WindowWidths(source=source(n=40)).run()
    found = Patterns(source=source(n=48), keys=8).run()
    table = found.tables["patterns"]
    swaps = pd.DataFrame(
        {
            "name": ["exact", "window 60"],
            "key": ["exact", "window"],
            "perplexity": [29.0, 80.0],
            "least": [29.0, 78.0],
            "most": [29.0, 82.0],
            "probability": [0.9, 0.0],
            "lowest": [0.9, 0.0],
            "highest": [0.9, 0.0],
            "seeds": [1, 3],
        }
    )
    active = ActiveQueries(source=source(n=40)).run()
    for drawn in (
        charts.recall_chart(widths.tables["curves"], theme, now=8),
        charts.error_chart(widths.tables["errors"], theme, control=1.0, now=8),
        charts.patterns_chart(table, theme),
        charts.active_chart(active.tables["queries"], theme),
        charts.pattern_pictures(list(table["name"]), list(table["idea"]), found.arrays["seen"], theme, causal=True),
        charts.swaps_chart(swaps, theme, column="perplexity", ends=("least", "most"), title="p", log=True),
        charts.swaps_chart(swaps, theme, column="probability", ends=("lowest", "highest"), title="p", log=False, names=False),
        charts.reach_chart(WindowReach(source=source()).run().tables["reach"], theme),
    ):
        assert drawn.to_json()


# ------------------------------------------------------------------------------------------------ the real heads


class TestRealHeads:
    pytestmark = model

    def test_the_default_ledger_loses_what_the_last_word_wants(self):
        result = Ledger(source=TextSource(sample="story.txt", length=512)).run()
        found = ledger_finding(result)
        assert str(result.arrays["tokens"][int(result.arrays["marked"])]).strip() == "clock"
        assert (found.kind, found.asked, found.distance) == ("sink", "lost", 480)
        assert found.weight == pytest.approx(0.957, abs=0.002)
        # Sinks take about .6 of this head's weight; a window sees little more of the rest than of the pairs.
        assert found.first == pytest.approx(0.55, abs=0.05)
        assert found.recall - found.share < 0.1

    def test_what_there_is_to_try_shows_what_it_claims(self):
        for example in json.loads((ROOT / "assets/examples/window.json").read_text(encoding="utf-8")):
            sets = example["sets"]
            dials = {name.removeprefix("m.window."): text for name, text in sets.items() if name.startswith("m.window.")}
            built = Window.model_validate({name: text if name == "variant" else int(text) for name, text in dials.items()})
            layer, head = sets["head"].split(".")
            read = TextSource(sample="story.txt", length=512, layer=int(layer), heads=(int(head),))
            assert ledger_finding(Ledger(source=read, setting=Setting.of(built)).run()).kind == example["expects"], example[
                "name"
            ]

    def test_what_the_sentences_beside_the_buttons_say_is_so(self):
        def ledger(head, **dials):
            read = TextSource(sample="story.txt", length=512, layer=int(head.split(".")[0]), heads=(int(head.split(".")[1]),))
            return ledger_finding(Ledger(source=read, setting=Setting(key="window", dials=dials)).run())

        # "About eight tokens are enough."
        assert ledger("11.1", width=8).near > 0.9
        # "Nearly everything that the first tokens held is lost now, told apart as lost on sinks."
        kept, alone = ledger("17.3"), ledger("17.3", variant="sliding")
        assert alone.lost_sinks > 0.9 * kept.first
        # "Finds more of what counts than the window on as many pairs, and loses much of the sink."
        chosen = ledger("17.3", variant="selected")
        assert chosen.share < kept.share
        assert chosen.recall > kept.recall + 0.1
        assert chosen.lost_sinks > 0.15

    def test_perplexity_hides_that_the_planted_fact_is_gone(self):
        study = Swaps(source=TextSource(sample="story.txt", length=512))
        points = {point.name: point for point in study.points() if isinstance(point, SwapPoint)}
        exact, wide = (study.measure(points[name]) for name in ("exact", "window 380 + 4 sinks"))
        assert exact["expected"].strip() == "clock"
        # Documented: perplexity 29.1 and 32.1, the planted fact's probability .90 and .00.
        assert exact["perplexity"] == pytest.approx(29.14, abs=0.1)
        assert wide["perplexity"] == pytest.approx(32.12, abs=0.1)
        assert exact["probability"] == pytest.approx(0.898, abs=0.005)
        assert wide["probability"] < 0.005
