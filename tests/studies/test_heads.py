"""Heads and masks: every number against plain float64, the rules of the names, the masks, what sharing saves."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from longattn_core.charts.figures import heads as charts
from longattn_core.charts.figures import heads_sharing, heads_survey
from longattn_core.charts.style.theme import Theme
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.language_model.weights import weights_available
from longattn_core.measures.cost import key_value_bytes
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.sequences.synthetic import Gaussian, Local, Repeated, Sink, synthetic
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.heads import masked as masked_heads
from longattn_core.studies.heads.finding import likeness_finding, mask_finding
from longattn_core.studies.heads.maps import HeadMap, pair_sentence
from longattn_core.studies.heads.masked import Masked
from longattn_core.studies.heads.masks import FUTURE, PADDED, masked, small_mask
from longattn_core.studies.heads.roles import RULES, name_heads, role_counts, role_of, traits_of
from longattn_core.studies.heads.sharing import Sharing, bonds, cache_growth
from longattn_core.studies.heads.survey import HeadSurvey, measured_head

ASSETS = Path(__file__).parents[2] / "assets"
MASKS = ("none", "padding", "look_ahead", "both")


def _given(*rows: list[float], value: float = 1.0, causal: bool = True, tokens: tuple[str, ...] | None = None) -> Sequence:
    """A sequence of one head whose weights are the given rows: q are unit vectors, k the logarithms of the rows."""
    n = len(rows)
    weights = torch.tensor(rows, dtype=torch.float64).clamp_min(1e-30)
    q = torch.eye(n, dtype=torch.float64)[None] * math.sqrt(n)
    return Sequence(
        q=q,
        k=weights.log().T[None].contiguous(),
        v=torch.full((1, n, 2), value, dtype=torch.float64),
        causal=causal,
        tokens=tokens,
    )


# ------------------------------------------------------------------------------------------------ what a head does


def test_masses_are_counted_by_place_and_by_word() -> None:
    rows = [[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0.5, 0.3, 0.2, 0], [0.1, 0.6, 0.2, 0.1]]
    head = measured_head(_given(*rows, tokens=("a", "b", "a", "a")))
    # Fewer than 33 tokens: all queries count, and there is no sink.
    assert head["sinks"] == 0
    assert head["sink count"] == 0
    assert head["near"] == pytest.approx(1.0, abs=1e-9)
    assert head["previous"] == pytest.approx((0.25 + 0.3 + 0.2) / 3, abs=1e-9)
    assert head["itself"] == pytest.approx((1 + 0.75 + 0.2 + 0.1) / 4, abs=1e-9)
    # Query 2 ("a") saw an "a" at 0; query 3 at 0 and 2. What followed the "a" at 0 is token 1; token 3 itself is no look back.
    assert head["same word"] == pytest.approx((0.5 + 0.1 + 0.2) / 2, abs=1e-9)
    assert head["induction"] == pytest.approx((0.3 + 0.6) / 2, abs=1e-9)
    assert head["possible"] == pytest.approx(2.5)
    assert head["first is previous"] == pytest.approx(0.0)


def test_a_word_that_never_returns_gives_no_number() -> None:
    head = measured_head(_given([1, 0], [0.5, 0.5], tokens=("a", "b")))
    assert math.isnan(head["same word"])
    assert math.isnan(head["induction"])
    assert math.isnan(measured_head(_given([1, 0], [0.5, 0.5]))["same word"])


def test_the_rank_is_that_of_the_singular_values() -> None:
    sequence = Gaussian(n=96, dtype="float64", seed=2).sequence()
    found = measured_head(sequence)["rank"]
    values = np.linalg.svd(exact_rows(sequence)[0].numpy(), compute_uv=False) ** 2
    assert found == int((values.cumsum() / values.sum() < 0.99).sum()) + 1


def test_sinks_are_left_out_of_the_free_weight() -> None:
    head = measured_head(Sink(n=256, share=0.6, dtype="float64").sequence())
    assert head["sink count"] == 1
    # The share is p up to the fluctuation of the others' sum.
    assert head["sinks"] == pytest.approx(0.6, abs=0.03)
    assert head["effective without sinks"] > head["effective"]
    assert head["near without sinks"] == pytest.approx(head["near"] / (1 - head["sinks"]), rel=0.05)


def test_a_survey_of_a_synthetic_sequence_has_a_row_a_head() -> None:
    source = SyntheticSource(settings=Repeated(n=128, heads=2, strength=14))
    heads = HeadSurvey(source=source).run().tables["heads"]
    assert list(heads["name"]) == ["L0 H0", "L0 H1"]
    # Each query of the second half looks for what followed its word: an induction head by construction.
    assert set(heads["role"]) == {"induction"}
    local = SyntheticSource(settings=Local(n=128, strength=30, length=4, d=256))
    assert HeadSurvey(source=local).run().tables["heads"]["role"].iloc[0] == "local"


# ------------------------------------------------------------------------------------------------ names


def _row(**changed: float) -> dict[str, float]:
    plain = {
        "sinks": 0.3,
        "sink count": 1,
        "previous without sinks": 0.05,
        "near without sinks": 0.3,
        "induction without sinks": 0.05,
        "same word without sinks": 0.05,
        "effective without sinks": 40,
        "possible": 256,
        "rank": 200,
        "n": 512,
        "rank without sinks": 200,
    }
    return {**plain, **changed}


@pytest.mark.parametrize(
    ("changed", "role"),
    [
        ({}, "mixed"),
        ({"sinks": 0.95, "near without sinks": 0.99}, "sinks"),
        ({"sinks": 0.7}, "sinks"),
        ({"sinks": 0.7, "induction without sinks": 0.6}, "induction"),
        ({"sinks": 0.7, "same word without sinks": 0.45}, "same word"),
        ({"previous without sinks": 0.8, "near without sinks": 0.95}, "previous token"),
        ({"previous without sinks": 0.7, "near without sinks": 0.95}, "local"),
        ({"effective without sinks": 110}, "diffuse"),
        ({"rank without sinks": 400}, "high rank"),
        ({"induction without sinks": math.nan, "same word without sinks": math.nan}, "mixed"),
    ],
)
def test_names_follow_the_rules(changed: dict[str, float], role: str) -> None:
    assert role_of(_row(**changed)) == role


def test_traits_say_what_else_is_true() -> None:
    assert traits_of(_row(**{"sink count": 9, "sinks": 0.8})) == ("several sinks",)
    assert "low rank only by its sink" in traits_of(_row(rank=4, **{"rank without sinks": 58}))
    assert "low rank" in traits_of(_row(rank=80, **{"rank without sinks": 80}))
    assert "no sink" in traits_of(_row(**{"sink count": 0, "sinks": 0.0}))


def test_every_name_has_a_rule_a_colour_and_all_but_the_rest_a_letter() -> None:
    inks = heads_survey.role_colours(Theme())
    assert set(RULES) == set(inks)
    assert set(heads_survey.LETTERS) == set(RULES) - {"mixed"}
    assert len(set(heads_survey.LETTERS.values())) == len(heads_survey.LETTERS)


# ------------------------------------------------------------------------------------------------ masks


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("side", ["end", "start"])
def test_a_mask_hides_what_it_says_and_rows_stay_shares(mask: str, side: str) -> None:
    sequence = masked(Gaussian(n=8, causal=True).sequence(), mask, 0.25, side)
    padded = set() if mask in ("none", "look_ahead") else ({6, 7} if side == "end" else {0, 1})
    rows = exact_rows(sequence)[0]
    for query in range(8):
        for key in range(8):
            hidden = query in padded or key in padded or (mask in ("look_ahead", "both") and key > query)
            assert (float(rows[query, key]) == 0.0) == hidden
        total = 0.0 if query in padded else 1.0
        assert float(rows[query].sum()) == pytest.approx(total, abs=1e-6)


def test_padding_never_takes_the_last_token_nor_a_file_s_own_padding() -> None:
    assert int(masked(Gaussian(n=1).sequence(), "padding", 0.9, "end").real.sum()) == 1
    sequence = Gaussian(n=4).sequence()
    own = replace(sequence, padding=torch.tensor([False, False, False, True]))
    assert masked(own, "padding", 0.5, "end").real.tolist() == [False, False, False, True]
    assert masked(own, "look_ahead", 0.5, "end").real.tolist() == [False, False, False, True]


def test_the_small_picture_of_a_mask_says_why_a_pair_is_hidden() -> None:
    codes = small_mask("both", 0.25, "end", 4)
    assert codes.tolist() == [
        [0, FUTURE, FUTURE, PADDED],
        [0, 0, FUTURE, PADDED],
        [0, 0, 0, PADDED],
        [PADDED, PADDED, PADDED, PADDED],
    ]
    assert (small_mask("none", 0.25, "end", 4) == 0).all()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("n", [1, 2, 31, 130])
def test_small_maps_are_the_largest_weights_of_their_cells(mask: str, n: int) -> None:
    study = Masked(source=SyntheticSource(settings=synthetic("gaussian", n=n, heads=2)), mask=mask, cells=32)
    result = study.run()
    maps, rows = result.arrays["maps"], exact_rows(study.masked()).double().numpy()
    allowed = study.masked().allowed().numpy()
    cells = min(n, 32)
    assert maps.shape == (2, cells, cells)
    edges = [n * i // cells for i in range(cells + 1)]
    last = cells - 1
    for column in range(cells):
        # At most 4 queries a cell are sampled; at these lengths a cell has at most 5, its first and last among the sampled.
        block = rows[0, edges[last] : edges[last + 1], edges[column] : edges[column + 1]]
        seen = allowed[edges[last] : edges[last + 1], edges[column] : edges[column + 1]]
        if not seen.any():
            assert np.isnan(maps[0, last, column])
        elif edges[last + 1] - edges[last] <= 4:
            assert maps[0, last, column] == pytest.approx(block[seen].max(), abs=1e-6)
    assert result.tables["heads"]["hidden"].between(0, 1).all()


def test_rows_that_are_kept_between_moves_are_those_computed_anew(monkeypatch) -> None:
    source = SyntheticSource(settings=synthetic("sink", n=70, heads=2))
    studies = [Masked(source=source, mask="padding", padding=share, cells=32) for share in (0.2, 0.5)]
    kept = [study.run().tables["heads"] for study in studies]
    monkeypatch.setattr(masked_heads, "KEPT_WEIGHTS", 0)
    monkeypatch.setattr(masked_heads, "_kept", SingleFlightCache(size=1))
    for study, table in zip(studies, kept, strict=True):
        pd.testing.assert_frame_equal(study.run().tables["heads"], table, rtol=1e-12)


def test_what_a_mask_takes_is_measured_on_the_unmasked_rows() -> None:
    study = Masked(source=SyntheticSource(settings=Gaussian(n=64)), mask="look_ahead")
    found = float(study.run().tables["heads"]["hidden"].iloc[0])
    free = exact_rows(Gaussian(n=64, causal=False).sequence())[0].double()
    ahead = torch.arange(64)[None, :] > torch.arange(64)[:, None]
    assert found == pytest.approx(float((free * ahead).sum(-1).mean()), abs=1e-6)


def test_findings_choose_their_verb_by_rule() -> None:
    source = SyntheticSource(settings=Gaussian(n=64))
    assert mask_finding(Masked(source=source, mask="none").run()).kind == "open"
    assert mask_finding(Masked(source=source, mask="padding", padding=0.05).run()).kind == "little"
    assert mask_finding(Masked(source=source, mask="look_ahead").run()).kind == "part"
    assert mask_finding(Masked(source=source, mask="both", padding=0.5, side="start").run()).kind == "most"
    assert mask_finding(Masked(source=SyntheticSource(settings=Gaussian(n=1)), mask="none").run()).kind == "alone"
    text = (ASSETS / "prose" / "en" / "heads.md").read_text(encoding="utf-8")
    for kind in ("open", "alone", "most", "part", "little"):
        assert f"## answer_{kind}\n" in text


def test_one_map_and_its_window_hold_the_rows_themselves() -> None:
    source = SyntheticSource(settings=Gaussian(n=48))
    whole = HeadMap(source=source, mask="both", padding=0.25).run().arrays["map"]
    sequence = masked(source.sequence(), "both", 0.25, "end")
    rows, allowed = exact_rows(sequence)[0].numpy(), sequence.allowed().numpy()
    np.testing.assert_allclose(np.nan_to_num(whole), rows, atol=1e-6)
    assert (np.isnan(whole) == ~allowed).all()
    part = HeadMap(source=source, mask="both", padding=0.25, queries=(8, 24), keys=(4, 20), cells=8).run().arrays["map"]
    expected = np.where(allowed, rows, -1)[8:24, 4:20].reshape(8, 2, 8, 2).max((1, 3))
    np.testing.assert_allclose(np.where(np.isnan(part), -1, part), expected, atol=1e-6)


def test_a_pair_is_explained_by_what_hides_it_or_by_its_place() -> None:
    source = SyntheticSource(settings=Gaussian(n=8))
    setting = Masked(source=source, mask="both", padding=0.25)
    assert "one token ahead" in pair_sentence(setting, 0, 2, 3)
    assert "3 tokens ahead" in pair_sentence(setting, 0, 2, 5)
    assert "the key counts as padding" in pair_sentence(setting, 0, 2, 7)
    assert "the query counts as padding" in pair_sentence(setting, 0, 7, 2)
    row = exact_rows(setting.masked(), 5)[0, 0]
    best = int(row.argmax())
    assert f"{float(row[best]):.3g}, place 1 among the 6 keys" in pair_sentence(setting, 0, 5, best)
    with pytest.raises(ValueError, match="query must lie in"):
        pair_sentence(setting, 0, 8, 0)


# ------------------------------------------------------------------------------------------------ shared keys


def test_bonds_are_neighbours_and_must_divide() -> None:
    assert bonds(9, 3) == [(h, h // 3) for h in range(9)]
    assert {kv for _, kv in bonds(9, 1)} == {0}
    with pytest.raises(ValueError, match="evenly"):
        bonds(9, 2)


def test_the_cache_is_counted_by_formula_and_grows_with_the_text() -> None:
    result = Sharing(source=SyntheticSource(settings=Gaussian(n=32, heads=4, d=16, e=8))).run()
    cache = result.tables["cache"].set_index("scheme")
    assert cache.loc["multi-head", "bytes a token"] == 4 * (16 + 8) * 2
    assert cache.loc["multi-query", "bytes a token"] == (16 + 8) * 2
    assert cache.loc["multi-head", "bytes"] == 32 * 4 * (16 + 8) * 2
    assert result.words["model"] == "multi-head"
    curve = cache_growth(result.tables["cache"]).query("scheme == 'multi-query' and n == 1024")
    assert int(curve["bytes"].iloc[0]) == 1024 * 48
    assert likeness_finding(result.tables["pairs"])[0] == "one"


def test_overlaps_are_the_shares_that_two_rows_have_in_common() -> None:
    source = SyntheticSource(settings=Gaussian(n=24, heads=2))
    pair = Sharing(source=source).run().tables["pairs"].iloc[0]
    first, second = exact_rows(source.sequence()).double()
    assert pair["overlap"] == pytest.approx(float(torch.minimum(first, second).sum(-1).mean()), abs=1e-6)


def test_likeness_compares_means_by_rule() -> None:
    pairs = pd.DataFrame({"share keys": [True, False], "overlap without sinks": [0.5, 0.3]})
    assert likeness_finding(pairs) == ("more", 0.5, 0.3)
    assert likeness_finding(pairs.assign(**{"overlap without sinks": [0.5, 0.47]}))[0] == "same"
    assert likeness_finding(pairs.iloc[:1])[0] == "one"


# ------------------------------------------------------------------------------------------------ charts


def test_charts_are_drawn_in_both_themes() -> None:
    source = SyntheticSource(settings=Repeated(n=64, heads=3))
    heads = HeadSurvey(source=source).run().tables["heads"]
    result, sharing = Masked(source=source, mask="both").run(), Sharing(source=source).run()
    for theme in (Theme(), Theme(mode="dark", presenting=True)):
        for value in ("role", "near", "rank without sinks"):
            chart = heads_survey.survey_chart(heads, theme, chosen="L0 H1", value=value, layers=30).to_dict()
            assert [param["name"] for param in chart["params"]] == ["head"]
        assert charts.mask_chart(small_mask("both", 0.25, "end", 4), theme, tokens=("a", "b", "c", "d")).to_dict()["layer"]
        assert heads_sharing.bonds_chart({"multi-head": bonds(3, 3)}, theme, model="multi-head", chosen=1).to_dict()["layer"]
        assert heads_sharing.cache_chart(sharing.tables["cache"], theme, model="multi-head").to_dict()["layer"]
        assert heads_sharing.likeness_chart(sharing.tables["pairs"], theme, heads=(0, 1, 2)).to_dict()["layer"]
        assert charts.maps_chart(result.arrays["maps"], result.arrays["hidden"], theme, heads=("H0", "H1", "H2")).to_dict()


def test_hidden_cells_are_drawn_as_hidden_and_not_as_weights() -> None:
    theme = Theme()
    hidden = np.array([[0, FUTURE], [0, PADDED]])
    pixels = charts.map_pixels(np.array([[1.0, np.nan], [0.5, np.nan]]), hidden, theme, factor=1)
    assert pixels[1, 1].tolist() == list(bytes.fromhex(theme.never[1:]))
    assert pixels[0, 0].tolist() == theme.weights[255].tolist()


# ------------------------------------------------------------------------------------------------ the real model

SAID = {
    "local": "local",
    "previous token": "previous token",
    "induction, long range": "induction",
    "same word": "same word",
    "pure sink": "sinks",
    "many sinks": "sinks",
    "diffuse": "diffuse",
    "sink in disguise": "sinks",
    "low rank": "diffuse",
}


@pytest.fixture(scope="module", params=["story.txt", "encyclopedia.txt", "code.txt"])
def named(request: pytest.FixtureRequest) -> pd.DataFrame:
    """The default heads on a text, from one pass of the model."""
    entries = json.loads((ASSETS / "heads.json").read_text(encoding="utf-8"))
    said = {(entry["layer"], entry["head"]): entry["role"] for entry in entries if entry["role"] in SAID}
    survey = HeadSurvey(source=TextSource(sample=request.param, length=512))
    points = [point for point in survey.points() if (point.layer, point.head) in said]
    rows = [{**survey.measure(point), "said": said[point.layer, point.head]} for point in points]
    return name_heads(pd.DataFrame(rows)).set_index("said")


@pytest.mark.model
@pytest.mark.skipif(not weights_available(), reason="the language model is not installed")
class TestOnTheModel:
    def test_the_default_heads_bear_their_names_on_three_texts(self, named: pd.DataFrame) -> None:
        assert dict(named["role"]) == {said: SAID[said] for said in named.index}
        assert "low rank" in named.loc["low rank", "traits"]
        assert "only by its sink" in named.loc["sink in disguise", "traits"]
        assert "several sinks" in named.loc["many sinks", "traits"]
        assert "no sink" in named.loc["local", "traits"]

    def test_the_expected_numbers(self, named: pd.DataFrame) -> None:
        assert named.loc["local", "near"] == pytest.approx(0.97, abs=0.02)
        previous = named.loc["previous token"]
        assert previous["first is previous"] == pytest.approx(0.99, abs=0.01)
        assert previous["previous"] == pytest.approx(0.77, abs=0.04)
        assert previous["rank without sinks"] == pytest.approx(490, abs=5)
        assert named.loc["pure sink", "sinks"] == pytest.approx(1.0, abs=0.005)
        assert 68 <= named.loc["low rank", "rank"] <= 82
        assert 3 <= named.loc["sink in disguise", "rank"] <= 8
        assert 46 <= named.loc["sink in disguise", "rank without sinks"] <= 68
        assert 0.78 <= named.loc["many sinks", "sinks"] <= 0.95
        # 195 to 215 of 272 possible: of the 288 that a longer text has, it would be 210 to 219.
        assert 0.7 <= named.loc["diffuse", "effective"] / named.loc["diffuse", "possible"] <= 0.8

    def test_the_cache_and_the_likeness_of_the_model_s_heads(self) -> None:
        result = Sharing(source=TextSource(length=256)).run()
        cache = result.tables["cache"].set_index("scheme")["bytes a token"]
        assert result.words["model"] == "grouped-query"
        assert dict(cache) == {"multi-head": 69120, "grouped-query": 23040, "multi-query": 7680}
        assert cache["grouped-query"] == key_value_bytes(layers=30, key_value_heads=3, d=64, e=64)
        assert likeness_finding(result.tables["pairs"])[0] == "more"

    def test_examples_say_what_a_run_finds(self) -> None:
        for example in json.loads((ASSETS / "examples" / "heads.json").read_text(encoding="utf-8")):
            sets = example["sets"]
            layer = int(sets["head"].split(".")[0])
            study = Masked(
                source=TextSource(sample=sets["sample"], length=int(sets["n"]), layer=layer),
                mask=sets["heads.mask"],
                side=sets.get("heads.side", "end"),
                padding=float(sets.get("heads.padding", 0.25)),
            )
            assert mask_finding(study.run()).kind == example["expects"], example["name"]

    def test_padding_at_the_start_takes_the_sink_away(self) -> None:
        result = Masked(source=TextSource(length=256), mask="both", side="start").run().tables["heads"]
        assert result["sinks"].max() == 0.0
        assert result["sinks unmasked"].mean() > 0.1

    def test_the_survey_counts_all_heads_from_the_source_s_layer_on(self) -> None:
        points = HeadSurvey(source=TextSource(length=64)).points()
        assert len(points) == 270
        assert [point.layer for point in points[:9]] == [17] * 9
        heads = name_heads(pd.DataFrame([HeadSurvey(source=TextSource(length=64)).measure(points[3])]))
        assert role_counts(heads) and heads["name"].iloc[0] == "L17 H3"
