"""Dilution: the numbers against closed forms and plain float64, the rules of its sentences, and the examples' claims."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from longattn_core.charts.figures import dilution as charts
from longattn_core.charts.style.theme import Theme
from longattn_core.contracts.sequence import exact_rows
from longattn_core.language_model.weights import weights_available
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.sequences.synthetic import Identical, Needle, Sink, synthetic
from longattn_core.studies.dilution.every_head import EveryHead
from longattn_core.studies.dilution.finding import dilution_finding, remedy_finding
from longattn_core.studies.dilution.growth import Growth
from longattn_core.studies.dilution.last_token import LastToken
from longattn_core.studies.dilution.needle import LENGTHS, NeedleGrowth, NeedleTheory, noise
from longattn_core.studies.dilution.planted import PlantedGrowth, planted_rows
from longattn_core.studies.dilution.planted_text import PlantedText
from longattn_core.studies.dilution.weight_shares import ScoreRows, measured_rows, remedy_factor, table_row

model = [pytest.mark.model, pytest.mark.skipif(not weights_available(), reason="the language model is not installed")]


def close(found: float, expected: float, tolerance: float) -> None:
    assert abs(found - expected) <= tolerance, f"{found} is not within {tolerance} of {expected}"


# ------------------------------------------------------------------------------------------------ rows of scores


def test_shares_are_what_softmax_gives_and_sum_to_one() -> None:
    scores = torch.tensor([[2.0, 0.5, -1.0, 3.0, -math.inf]])
    measured = measured_rows(ScoreRows(scores=scores, needle=1, sinks=(3,)))
    weights = np.exp([2.0, 0.5, -1.0, 3.0]) / np.exp([2.0, 0.5, -1.0, 3.0]).sum()
    close(float(measured["needle"]), weights[1], 1e-12)
    close(float(measured["sinks"]), weights[3], 1e-12)
    close(float(measured["rest"]), weights[0] + weights[2], 1e-12)
    close(float(measured["entropy"]), -(weights * np.log(weights)).sum(), 1e-12)
    left = weights[:3] / weights[:3].sum()
    close(float(measured["effective without sinks"]), math.exp(-(left * np.log(left)).sum()), 1e-12)
    close(float(measured["bound"]), math.log(4), 1e-12)
    # 2.0 scores above the needle's 0.5; the sink's 3.0 does not count as another that outranks it.
    assert float(measured["outranked"]) == 1.0
    assert float(measured_rows(ScoreRows(scores=torch.tensor([[0.0, 0.5, 9.0]]), needle=1, sinks=(2,)))["outranked"]) == 0.0


def test_without_a_needle_each_query_has_its_own_strongest_key_and_never_a_sink() -> None:
    scores = torch.tensor([[5.0, 1.0, 0.0], [5.0, 0.0, 1.0]])
    measured = measured_rows(ScoreRows(scores=scores, needle=None, sinks=(0,)))
    weight = math.e / (math.exp(5) + math.e + 1)
    assert measured["needle"].tolist() == pytest.approx([weight, weight], abs=1e-12)


def test_one_key_alone_has_all_the_weight_and_no_rest() -> None:
    row = table_row(ScoreRows(scores=torch.zeros(1, 1), needle=None))
    assert (row["n"], row["needle"], row["rest"], row["entropy"]) == (1, 1.0, 0.0, 0.0)
    assert math.isnan(row["score rest"])
    assert math.isnan(row["rank 2"])


def test_a_needle_among_the_sinks_counts_as_the_needle() -> None:
    measured = measured_rows(ScoreRows(scores=torch.tensor([[1.0, 1.0]]), needle=0, sinks=(0,)))
    assert float(measured["needle"]) == pytest.approx(0.5, abs=1e-12)
    assert float(measured["sinks"]) == 0.0


def test_remedies_multiply_by_their_formulas() -> None:
    assert remedy_factor("temperature", 4096, reference=512, temperature=0.5) == 2.0
    assert remedy_factor("log_n", 512, reference=512, temperature=1.0) == 1.0
    close(remedy_factor("log_n", 4096, reference=512, temperature=1.0), 12 / 9, 1e-12)
    assert remedy_factor("yarn", 256, reference=512, temperature=1.0) == 1.0
    close(remedy_factor("yarn", 4096, reference=512, temperature=1.0), (0.1 * math.log(8) + 1) ** 2, 1e-12)
    with pytest.raises(ValueError, match="reference"):
        remedy_factor("log_n", 8, reference=1, temperature=1.0)


def test_a_remedied_share_is_that_of_the_multiplied_scores_and_ranks_are_the_sorted_weights() -> None:
    scores = torch.tensor([[3.0, 1.0, 0.0, 2.0]], dtype=torch.float64)
    row = table_row(ScoreRows(scores=scores, needle=0), reference=2, temperature=0.5)
    doubled = np.exp(2 * scores[0].numpy())
    close(row["needle:temperature"], doubled[0] / doubled.sum(), 1e-12)
    close(row["needle:log_n"], doubled[0] / doubled.sum(), 1e-12)  # ln 4 / ln 2 = 2
    falling = np.sort(np.exp(scores[0].numpy()) / np.exp(scores[0].numpy()).sum())[::-1]
    assert [row["rank 1"], row["rank 2"], row["rank 4"]] == pytest.approx(falling[[0, 1, 3]].tolist(), abs=1e-12)


# ------------------------------------------------------------------------------------------------ the needle in noise


def test_the_noise_is_that_of_the_sequence_itself() -> None:
    settings = Needle(n=256, lead=6.0, noise=1.5, position=0, d=64, e=1, seed=3, dtype="float64")
    row = exact_rows(settings.sequence(), 255)[0, 0]
    scores = torch.cat((torch.tensor([6.0], dtype=torch.float64), 1.5 * noise(64, 3, 256)))
    torch.testing.assert_close(row, scores.softmax(-1), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def needles() -> pd.DataFrame:
    return NeedleGrowth(source=SyntheticSource(settings=Needle(lead=8, noise=1)), seeds=16).run().tables["points"]


def test_the_drawn_needle_follows_the_closed_form_where_it_holds(needles: pd.DataFrame) -> None:
    held = needles[needles["holds"]]
    assert list(held["n"]) == list(LENGTHS[1:])
    # The form is within .02 of the mean over draws, and 16 draws are within .01 of that mean here.
    assert (held["needle"] - held["formula"]).abs().max() < 0.03
    assert (held["low"] <= held["needle"]).all() and (held["needle"] <= held["high"]).all()
    assert not needles["few keys dominate"].any()


def test_sharpness_multiplies_lead_and_noise() -> None:
    sharp = NeedleGrowth(source=SyntheticSource(settings=Needle(lead=4, noise=0.5, sharpness=2)), seeds=4).run()
    plain = NeedleGrowth(source=SyntheticSource(settings=Needle(lead=8, noise=1)), seeds=4).run()
    np.testing.assert_allclose(sharp.tables["points"]["needle"], plain.tables["points"]["needle"], rtol=1e-12)


def test_too_much_noise_is_said_not_to_hold() -> None:
    wild = NeedleGrowth(source=SyntheticSource(settings=Needle(lead=8, noise=4)), seeds=2).run().tables["points"]
    assert not wild["holds"].any()
    # σ² = 16 > 2·ln n up to n = e⁸ = 2,981.
    assert list(wild.loc[wild["few keys dominate"], "n"]) == [n for n in LENGTHS if n < math.exp(8)]


def test_the_theory_tables_agree_with_what_is_drawn() -> None:
    laws = NeedleTheory(source=SyntheticSource(settings=Needle(lead=3, noise=1))).run().tables
    chances = laws["chances"]
    # 32 draws: a 95 % interval may miss once in a while, not often.
    inside = (chances["low"] <= chances["formula"]) & (chances["formula"] <= chances["high"])
    assert inside.mean() >= 0.8
    half = laws["leads"].query("share == 0.5")
    np.testing.assert_allclose(half["lead"], np.log(half["n"] - 1) + 0.5, rtol=1e-12)
    alike = laws["alike"].query("rows == 'identical'")
    # Rows of ±1 give equal scores bit for bit; 1/n itself is rounded once.
    np.testing.assert_allclose(alike["largest"], 1 / alike["n"], rtol=1e-12)
    distinct = laws["alike"].query("rows == 'distinct'")
    assert (distinct["largest"].to_numpy() > 2 * alike["largest"].to_numpy()).all()
    assert (laws["spread"]["entropy"] <= laws["spread"]["bound"]).all()


def test_a_picture_of_needles_refuses_another_sequence() -> None:
    with pytest.raises(ValueError, match="Needle in noise"):
        NeedleGrowth(source=SyntheticSource(settings=Identical(n=16))).run()


# ------------------------------------------------------------------------------------------------ prefixes


def test_identical_rows_thin_out_as_one_over_n() -> None:
    table = Growth(source=SyntheticSource(settings=Identical(n=256)), queries=1).run().tables["points"]
    np.testing.assert_allclose(table["needle"], 1 / table["n"], rtol=1e-6)  # float32 sequence
    np.testing.assert_allclose(table["entropy"], np.log(table["n"]), rtol=1e-6)
    assert list(table["n"]) == [16, 32, 64, 128, 256]


def test_the_sink_is_told_apart_as_the_sequence_grows() -> None:
    table = Growth(source=SyntheticSource(settings=Sink(n=512, share=0.6))).run().tables["points"]
    assert (table["sink count"] == 1).all()
    # The share holds up to the fluctuation of the others' sum, averaged over 32 queries.
    assert (table["sinks"] - 0.6).abs().max() < 0.1


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 2, 33, 100])
def test_prefixes_of_any_length_and_mask_sum_to_one(n: int, causal: bool) -> None:
    table = Growth(source=SyntheticSource(settings=synthetic("gaussian", n=n, causal=causal))).run().tables["points"]
    np.testing.assert_allclose(table["needle"] + table["sinks"] + table["rest"], 1, atol=1e-9)
    assert int(table["n"].iloc[-1]) == n


def test_the_last_token_s_weights_are_the_row_of_exact_attention() -> None:
    source = SyntheticSource(settings=synthetic("clustered", n=64))
    arrays = LastToken(source=source, n=40).run().arrays
    row = exact_rows(source.sequence().prefix(40), 39)[0, 0].numpy()
    np.testing.assert_allclose(arrays["weights"], row, atol=1e-6)  # float32 scores


# ------------------------------------------------------------------------------------------------ sentences


def _rows(*shares: tuple[int, float, float], effective: float = 3.0) -> pd.DataFrame:
    rows = [
        {"n": n, "needle": needle, "sinks": sinks, "rest": 1 - needle - sinks, "effective without sinks": effective}
        for n, needle, sinks in shares
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (_rows((256, 0.96, 0.03), (512, 0.95, 0.04)), "holds"),
        (_rows((256, 0.96, 0.03), (8192, 0.02, 0.9)), "sinks"),
        (_rows((256, 0.96, 0.03), (8192, 0.02, 0.05)), "crowd"),
        (_rows((256, 0.96, 0.03), (8192, 0.02, 0.5)), "both"),
        (_rows((256, 0.01, 0.9), (512, 0.01, 0.95)), "never_sinks"),
        (_rows((256, 0.01, 0.0), (512, 0.01, 0.0), effective=300), "never_crowd"),
        (_rows((256, 0.01, 0.0), (512, 0.01, 0.0)), "never_few"),
        (_rows((512, 0.9, 0.0)), "alone"),
        (_rows((1, 1.0, 0.0)), "alone"),
    ],
)
def test_what_became_of_the_needle_is_chosen_by_rule(table: pd.DataFrame, kind: str) -> None:
    assert dilution_finding(table).kind == kind


def test_the_order_of_the_rows_does_not_matter_and_the_loss_is_counted_from_the_best() -> None:
    found = dilution_finding(_rows((8192, 0.1, 0.8), (256, 0.5, 0.4), (512, 0.9, 0.05)))
    assert (found.best_n, found.last_n, found.kind) == (512, 8192, "sinks")
    close(found.to_sinks, 0.75 / 0.8, 1e-12)
    with pytest.raises(ValueError, match="Nothing"):
        dilution_finding(_rows())


def test_remedies_are_said_to_help_or_hurt_by_rule() -> None:
    base = {"n": [512, 4096], "needle": [0.9, 0.5]}
    helps = remedy_finding(pd.DataFrame(base | {"needle:log_n": [0.9, 0.8], "needle:yarn": [0.9, 0.45]}))
    assert (helps.kind, helps.best, helps.n) == ("helps", "log_n", 4096)
    assert remedy_finding(pd.DataFrame(base | {"needle:log_n": [0.9, 0.3]})).kind == "hurts"
    assert remedy_finding(pd.DataFrame(base | {"needle:log_n": [0.9, 0.52]})).kind == "little"


def test_examples_say_what_a_run_finds() -> None:
    assert (
        dilution_finding(NeedleGrowth(source=SyntheticSource(settings=Needle(lead=8, noise=1))).run().tables["points"]).kind
        == "crowd"
    )
    identical = Growth(source=SyntheticSource(settings=Identical(n=1024)), queries=1).run().tables["points"]
    assert dilution_finding(identical).kind == "never_crowd"


def test_the_prose_has_a_sentence_for_every_kind() -> None:
    text = (Path(__file__).parents[2] / "assets" / "prose" / "en" / "dilution.md").read_text(encoding="utf-8")
    for kind in ("holds", "sinks", "crowd", "both", "never_sinks", "never_crowd", "never_few", "alone"):
        assert f"## answer_{kind}\n" in text
    for kind in ("helps", "hurts", "little"):
        assert f"## remedied_{kind}\n" in text


# ------------------------------------------------------------------------------------------------ charts


def test_the_bars_stack_to_one_and_keep_places_for_what_is_not_measured() -> None:
    names = {"needle": "clock", "sinks": "sinks", "rest": "others"}
    chart = charts.shares_chart(
        _rows((256, 0.9, 0.06), (512, 0.2, 0.5)), Theme(), names=names, lengths=(256, 512, 1024)
    ).to_dict()
    data = pd.DataFrame(next(rows for rows in chart["datasets"].values() if "low" in rows[0]))
    assert data.groupby("n")["high"].max().tolist() == pytest.approx([1.0, 1.0], abs=1e-12)
    assert chart["layer"][0]["encoding"]["x"]["scale"]["domain"] == ["256", "512", "1,024"]


def test_charts_are_drawn_from_any_run_and_in_both_themes() -> None:
    names = {"needle": "needle", "sinks": "sinks", "rest": "noise"}
    for settings in (Identical(n=1), Identical(n=64), Sink(n=128)):
        points = Growth(source=SyntheticSource(settings=settings)).run().tables["points"]
        for theme in (Theme(mode="light"), Theme(mode="dark", presenting=True)):
            last = int(points["n"].iloc[-1])
            assert charts.denominator_chart(points, last, theme, names=names).to_dict()["layer"]
            assert charts.shares_chart(points, theme, names=names).to_dict()["layer"]
    table = charts.remedy_table(points, {"none": "as it is", "log_n": "times ln n"})
    assert set(table["series"]) == {"as it is", "times ln n"}
    assert charts.rank_table(points)["weight"].gt(0).all()


# ------------------------------------------------------------------------------------------------ the real model


class TestOnTheModel:
    pytestmark = model

    def test_a_planted_text_has_its_length_its_fact_and_its_question(self) -> None:
        for fact, word, ends in (("clock", " clock", " green"), ("violin", " violin", " broken")):
            for filler in ("own", "others"):
                built = PlantedText(fact=fact, filler=filler, n=300).build()
                assert len(built.ids) == len(built.tokens) == 300
                assert built.tokens[built.needle] == word
                assert built.tokens[-1] == ends
                # The question's words stand before the answer, and the answer nowhere behind the fact's paragraph.
                assert built.tokens[built.needle - 1] == ends
                question = [token for token in built.tokens[-built.question :] if token != "\n"]
                told = built.tokens[built.needle - len(question) : built.needle]
                assert "".join(question) == "".join(told)

    def test_other_texts_fill_7900_tokens_before_anything_returns(self) -> None:
        built = PlantedText(filler="others", n=8192).build()
        body, window = built.ids[built.fact : -built.question][:7850], 24
        runs = [body[i : i + window] for i in range(len(body) - window)]
        assert len(set(runs)) == len(runs)

    def test_the_last_token_s_scores_are_those_of_the_captured_head(self) -> None:
        from longattn_core.language_model.model import load_language_model

        text = PlantedText(n=256)
        last = planted_rows(text, 17, 3)
        with torch.inference_mode():
            one = load_language_model().capture(text.build().ids, 17)[17]
            scores = one.q[3, -1].double() @ one.k[1].double().T / 8
        # float32 inside the model; the order of summation differs.
        torch.testing.assert_close(last.scores[0].double(), scores, rtol=1e-4, atol=1e-4)
        assert last.sinks == (0,)

    def test_the_expected_shares_and_contrasts(self) -> None:
        points = PlantedGrowth(source=TextSource(), longest=1024).run().tables["points"]
        own = points[points["head"] == "L17 H3"].set_index("n")["needle"]
        # Expected .96 .98 .99 on another cut of the same filler; the cut moves them by some .03.
        for n, expected in ((256, 0.96), (512, 0.98), (1024, 0.99)):
            close(float(own[n]), expected, 0.04)
        assert dilution_finding(points[points["head"] == "L17 H3"]).kind == "holds"
        assert dilution_finding(points[points["head"] == "L0 H0"]).kind == "never_crowd"
        assert dilution_finding(points[points["head"] == "L11 H1"]).kind == "never_few"

    def test_known_points_are_used_again_by_a_longer_sweep_and_by_a_contrast(self) -> None:
        longer = PlantedGrowth(source=TextSource(), longest=2048)
        known = longer.known()
        assert known is not None
        assert set(known.tables["points"]["n"]) >= {256, 512}
        diffuse = PlantedGrowth(source=TextSource(layer=0, heads=(0,)), longest=512).known()
        assert diffuse is not None
        assert set(diffuse.tables["points"]["head"]) == {"L0 H0", "L11 H1"}

    def test_every_head_is_a_row_and_agrees_with_a_head_alone(self) -> None:
        source = TextSource(sample="encyclopedia.txt")
        heads = EveryHead(source=source, longest=64, queries=4).run().tables["heads"]
        assert len(heads) == 270
        one = heads[heads["name"] == "L17 H3"].iloc[0]
        rows = exact_rows(TextSource(sample="encyclopedia.txt", length=64).sequence(), list(range(60, 64)))[0].double()
        entropy = -(rows * rows.clamp_min(1e-300).log()).sum(-1).mean()
        close(float(one["entropy"]), float(entropy), 1e-4)
        assert (heads["effective"] <= 64 + 1e-6).all()

    def test_a_planted_fact_needs_a_text(self) -> None:
        with pytest.raises(ValueError, match="language model"):
            PlantedGrowth(source=SyntheticSource(settings=Needle())).points()
