"""The low-rank page's numbers against float64 linear algebra and closed forms, its sentences, its examples."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from longattn_core.charts.figures import low_rank as charts
from longattn_core.charts.maps import matrix_chart
from longattn_core.charts.style.theme import Theme
from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.theory.rank import gaussian_linformer_error
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.run import shortened
from longattn_core.studies.base.study import Result, sequence_of
from longattn_core.studies.base.sweep import powers_up_to
from longattn_core.studies.low_rank import decomposition
from longattn_core.studies.low_rank import errors as error_study
from longattn_core.studies.low_rank.decomposition import rank_of, uniform_values
from longattn_core.studies.low_rank.errors import METHODS, ErrorAgainstRank
from longattn_core.studies.low_rank.factors import Factors, Rebuilt
from longattn_core.studies.low_rank.finding import growth_finding, rank_finding
from longattn_core.studies.low_rank.law import GaussianLaw
from longattn_core.studies.low_rank.lengths import RankAgainstLength
from longattn_core.studies.low_rank.spectrum import Spectrum
from longattn_core.studies.low_rank.steps import Direction, Landmarks, Mixed


def synthetic(kind="gaussian", n=64, **dials):
    return SyntheticSource.model_validate({"settings": {"kind": kind, "n": n, **dials}})


def dense(source, causal=None):
    """The exact map in float64 by its definition, in numpy."""
    sequence = sequence_of(source)
    q, k = (x[0].double().numpy() for x in (sequence.q, sequence.k))
    scores = q @ k.T / math.sqrt(sequence.d)
    if sequence.causal if causal is None else causal:
        scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


# ----------------------------------------------------------------------------------------------- the uniform map


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 300])
def test_the_uniform_maps_singular_values_are_those_of_the_map_written_out(n):
    written = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    np.testing.assert_allclose(uniform_values(n, causal=True), np.linalg.svd(written, compute_uv=False), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(uniform_values(n, causal=False), np.eye(n)[0], atol=0)


def test_the_uniform_causal_map_alone_needs_32_directions_for_99_percent_of_the_energy():
    values = uniform_values(512, causal=True)
    assert rank_of(values, 0.99) == 32
    # 99 % of the energy is an error of 10 %: one direction less and it is more.
    error = np.sqrt(np.cumsum(values[::-1] ** 2)[::-1] / (values**2).sum())
    assert error[32] <= 0.1 < error[31]
    assert (rank_of(values, 0.98), rank_of(values, 0.995)) == (20, 50)


def test_identical_tokens_have_the_uniform_map():
    result = Spectrum(source=synthetic("identical", 128)).run()
    np.testing.assert_allclose(result.arrays["values"], uniform_values(128, causal=True), atol=1e-6)
    assert rank_finding(result).kind == "uniform"
    assert rank_finding(Spectrum(source=synthetic("identical", 128, causal=False)).run()).kind == "flat"


# ---------------------------------------------------------------------------------------------- spectrum, factors


@pytest.mark.parametrize("causal", [True, False])
def test_singular_values_are_those_of_the_map_by_its_definition(causal):
    source = synthetic(n=80, causal=causal)
    result = Spectrum(source=source).run()
    np.testing.assert_allclose(result.arrays["values"], np.linalg.svd(dense(source), compute_uv=False), rtol=1e-4, atol=1e-6)
    table = result.tables["spectrum"]
    own = table[table["map"] == "this map"]
    # What is held and what is lost is all there is.
    np.testing.assert_allclose(own["energy"] + own["error"] ** 2, 1.0, atol=1e-12)
    assert own["energy"].is_monotonic_increasing


def test_sinks_are_taken_out_by_their_columns():
    source = synthetic("sink", 128)
    result = Spectrum(source=source).run()
    sinks = list(result.arrays["sinks"])
    assert sinks == [0]
    rest = dense(source)
    rest[:, sinks] = 0
    np.testing.assert_allclose(result.arrays["without sinks"], np.linalg.svd(rest, compute_uv=False), rtol=1e-4, atol=1e-6)
    assert set(result.tables["spectrum"]["map"]) == {"this map", "without its sinks", "uniform map"}
    without = Factors(source=source, rank=128, without_sinks=True).run()
    np.testing.assert_allclose(without.arrays["left"] @ without.arrays["right"], rest, atol=2e-6)


@pytest.mark.parametrize("rank", [1, 5, 40, 64, 999])
def test_factors_and_remainder_make_the_map_and_err_as_eckart_and_young_say(rank):
    source = synthetic(n=64)
    arrays = Factors(source=source, rank=rank).run().arrays
    exact, k = dense(source), min(rank, 64)
    assert arrays["left"].shape == (64, k)
    assert arrays["right"].shape == (k, 64)
    np.testing.assert_allclose(arrays["left"] @ arrays["right"], arrays["rebuilt"], atol=1e-6)
    np.testing.assert_allclose(arrays["rebuilt"] - arrays["difference"], exact, atol=2e-6)
    u, s, vh = np.linalg.svd(exact)
    best = (u[:, :k] * s[:k]) @ vh[:k]
    error = np.linalg.norm(best - exact) / np.linalg.norm(exact)
    assert float(arrays["error"]) == pytest.approx(error, abs=2e-6)
    assert float(arrays["eckart_young"]) == pytest.approx(error, abs=2e-6)
    assert float(arrays["kept"]) == pytest.approx(1 - error**2, abs=1e-5)
    ahead = np.triu(best, 1)
    assert float(arrays["ahead"]) == pytest.approx((ahead**2).sum() / (best**2).sum(), abs=1e-5)
    assert float(arrays["negative"]) == pytest.approx((best[np.tril_indices(64)] < -1e-6).mean(), abs=2e-3)


def test_without_a_mask_nothing_lies_ahead():
    assert float(Factors(source=synthetic(n=32, causal=False), rank=4).run().arrays["ahead"]) == 0


def test_a_moved_rank_computes_no_second_decomposition(monkeypatch):
    calls = []
    real = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda x: calls.append(x.shape) or real(x))
    source = synthetic(n=40, seed=91)
    for rank in (1, 2, 8, 30):
        Factors(source=source, rank=rank).run()
        Direction(source=source, direction=rank).run()
    assert calls == [(40, 40)]


def test_a_cell_shows_its_largest_number_by_size_with_its_sign():
    x = np.random.default_rng(0).normal(size=(37, 50)).astype(np.float32)
    pooled = pooled_by_size(x, 16)
    for i in range(16):
        for j in range(16):
            cell = x[37 * i // 16 : 37 * (i + 1) // 16, 50 * j // 16 : 50 * (j + 1) // 16].ravel()
            assert pooled[i, j] == cell[np.abs(cell).argmax()]
    assert pooled_by_size(x, 64).shape == (37, 50)


def test_rebuilt_maps_agree_with_the_formula():
    errors = Rebuilt(source=synthetic(n=100)).run().tables["errors"]
    assert list(errors["k"]) == [1, 2, 4, 8, 16, 32, 64, 100]
    np.testing.assert_allclose(errors["measured"], errors["formula"], atol=2e-6)


def test_a_long_source_is_read_to_its_first_tokens():
    source = synthetic(n=200)
    short = shortened(source, 64)
    torch.testing.assert_close(sequence_of(short).q, sequence_of(source).q[:, :64], rtol=0, atol=0)
    assert shortened(short, 64) is short


# ------------------------------------------------------------------------------------------------------ sentences


def made(values, without=None, sinks=(), n=64, causal=True):
    values = np.asarray(values, float)
    arrays = {
        "values": values,
        "without sinks": values if without is None else np.asarray(without, float),
        "uniform": uniform_values(n, causal=causal),
        "sinks": np.array(sinks, int),
        "n": np.array(n),
        "causal": np.array(causal),
    }
    return Result(study=Spectrum(source=synthetic(n=8)), arrays=arrays)


def flat(rank, n=64):
    return np.concatenate([np.ones(rank), np.zeros(n - rank)])


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (made(flat(3), n=3), "single"),
        (made(uniform_values(64, causal=True)), "uniform"),
        (made(flat(1), n=64, causal=False), "flat"),
        (made(flat(5)), "low"),
        (made(flat(16)), "low"),  # 16·129 = 2,064 numbers for 2,080 pairs
        (made(flat(17)), "middle"),
        (made(flat(31)), "middle"),
        (made(flat(32)), "high"),
        (made(flat(64)), "high"),
        (made(flat(2), flat(6), [0]), "disguise"),
        (made(flat(2), flat(5), [0]), "low"),
        (made(flat(2), flat(6)), "low"),  # no sink, no disguise
        (made(flat(31), causal=False), "low"),
        (made(flat(32), causal=False), "high"),
    ],
)
def test_the_kind_of_answer_follows_from_the_numbers(result, kind):
    found = rank_finding(result)
    assert found.kind == kind
    assert found.numbers == found.rank * (2 * found.n + 1)
    assert found.held == (found.n * (found.n + 1) // 2 if found.causal else found.n**2)


# --------------------------------------------------------------------------------------------------------- sweeps


@pytest.fixture(scope="module")
def errors():
    return ErrorAgainstRank(source=synthetic(n=48), seeds=2).run()


def test_nothing_rebuilds_the_map_better_than_the_svd(errors):
    points = errors.tables["points"]
    assert set(points["method"]) == set(METHODS.values())
    for _, group in points.groupby(["rank", "seed"]):
        own = group.set_index("method")["map_error"]
        best = own[METHODS["svd"]]
        assert (own >= best - 1e-6).all()
    last = points[points["rank"] == 48].set_index("method")["error"]
    assert (last[[METHODS[name] for name in ("svd", "mean", "fitted", "nystrom")]] < 1e-2).all()
    assert (last[METHODS["gaussian"]] > 1).all()


def test_errors_of_the_sweep_are_those_of_the_mechanisms(errors):
    source = synthetic(n=48, causal=False)
    sequence, exact = sequence_of(source), dense(source)
    output = exact @ sequence.v[0].double().numpy()
    points = errors.tables["points"].query("seed == 0 and rank == 8").set_index("method")
    settings = {
        METHODS["svd"]: LowRank(rank=8),
        METHODS["mean"]: LowRank(variant="linformer", rank=8),
        METHODS["fitted"]: LowRank(variant="linformer", projection="fitted", rank=8),
        METHODS["gaussian"]: LowRank(variant="linformer", projection="gaussian", rank=8),
        METHODS["nystrom"]: LowRank(variant="nystrom", rank=8, cutoff=0.01),
    }
    for name, setting in settings.items():
        attended = setting.attend(sequence)
        error = np.linalg.norm(attended.output[0].double().numpy() - output) / np.linalg.norm(output)
        assert points.loc[name, "error"] == pytest.approx(error, rel=1e-3), name
        maps = np.linalg.norm(attended.rows()[0].double().numpy() - exact) / np.linalg.norm(exact)
        assert points.loc[name, "map_error"] == pytest.approx(maps, rel=1e-3), name
    mean = np.broadcast_to(sequence.v[0].double().numpy().mean(0), output.shape)
    control = np.linalg.norm(mean - output) / np.linalg.norm(output)
    assert points["control"].iloc[0] == pytest.approx(control, rel=1e-5)
    even = np.full_like(exact, 1 / 48)
    assert points["map_control"].iloc[0] == pytest.approx(np.linalg.norm(even - exact) / np.linalg.norm(exact), rel=1e-5)


def test_a_causal_source_is_read_without_its_mask():
    causal, plain = (ErrorAgainstRank(source=synthetic(n=24, causal=c), seeds=1).run() for c in (True, False))
    pd.testing.assert_series_equal(causal.tables["points"]["error"], plain.tables["points"]["error"])


def test_only_what_is_random_is_drawn_again():
    text = ErrorAgainstRank(source=TextSource(text="never read"), seeds=3)
    texts = [point for point in points_of(text, 8) if point.seed > 0]
    assert {point.method for point in texts} == {"gaussian"}
    drawn = [point for point in ErrorAgainstRank(source=synthetic(n=8), seeds=3).points() if point.seed > 0]
    assert {point.method for point in drawn} == set(METHODS)
    assert {point.source.settings.seed for point in drawn} == {1, 2}


def points_of(study, n):
    """The points of a study on n tokens of no text: the model is not asked."""

    class Short:
        pass

    short = Short()
    short.n = n
    real = error_study.read_prefix
    error_study.read_prefix = lambda *_: short
    try:
        return study.points()
    finally:
        error_study.read_prefix = real


def test_ranks_against_length_are_those_of_prefixes():
    source = synthetic("sink", 64)
    result = RankAgainstLength(source=source, seeds=1).run()
    points = result.tables["points"].set_index("n")
    exact = dense(source)
    for n in (16, 32, 64):
        values = np.linalg.svd(exact[:n, :n], compute_uv=False)
        assert points.loc[n, "whole"] == rank_of(values)
    assert list(points["uniform"]) == [9, 13, 17]
    assert (points["without"] >= points["whole"]).all()
    found = growth_finding(result)
    assert (found.first, found.last, found.uniform) == (16, 64, (9, 17))


def test_growth_reads_a_power_off_its_table():
    n = np.array([16, 64, 256])
    curves = pd.DataFrame({"n": [*n, *n], "rank": [*(2 * n**0.5), 4, 5, 6], "map": ["this map"] * 3 + ["uniform map"] * 3})
    result = Result(study=RankAgainstLength(source=synthetic(n=8)), tables={"curves": curves})
    found = growth_finding(result)
    assert found.power == pytest.approx(0.5)
    assert found.uniform == (4, 6)
    short = Result(study=result.study, tables={"curves": curves[curves["n"] == 16]})
    assert growth_finding(short) is None


def test_gaussian_mixes_settle_where_the_law_says():
    curves = GaussianLaw(seeds=3).run().tables["curves"]
    last = curves[curves["rank"] == 512].set_index("projections")["error"]
    # The law holds to leading order: within 0.06 at n = 512 and d = 64.
    assert last["E and F apart"] == pytest.approx(math.sqrt(2), abs=0.06)
    assert last["E = F"] == pytest.approx(float(gaussian_linformer_error(1.0, shared=True)), abs=0.06)
    assert float(gaussian_linformer_error(1.0, shared=True)) == pytest.approx(1.28, abs=0.005)
    assert (curves["error"] > 1).all()
    for _, group in curves.groupby("projections"):
        assert group.sort_values("rank")["error"].is_monotonic_decreasing


def test_steps_are_powers_of_two_and_the_whole():
    assert powers_up_to(12) == (1, 2, 4, 8, 12)
    assert powers_up_to(16, least=4) == (4, 8, 16)
    assert powers_up_to(1) == (1,)


# ---------------------------------------------------------------------------------------------------------- steps


def test_directions_add_up_to_the_map():
    source = synthetic(n=24)
    exact = dense(source)
    total = np.zeros_like(exact)
    for index in range(24):
        arrays = Direction(source=source, direction=index).run().arrays
        np.testing.assert_allclose(np.outer(arrays["query side"], arrays["key side"]), arrays["one"], atol=1e-6)
        total = total + arrays["one"]
        np.testing.assert_allclose(arrays["sum"], total, atol=1e-5)
        np.testing.assert_allclose(arrays["sum"] - arrays["difference"], exact, atol=1e-5)
        assert arrays["key side"].sum() >= -1e-6
    assert float(arrays["so_far"]) == pytest.approx(1)


@pytest.mark.parametrize("projection", ["mean", "gaussian", "fitted"])
def test_linformers_frames_follow_from_one_another(projection):
    source = synthetic(n=40, d=16)
    arrays = Mixed(source=source, rank=8, projection=projection).run().arrays
    e, f = arrays["mix of keys"], arrays["mix of values"]
    assert e.shape == f.shape == (8, 40)
    np.testing.assert_allclose(e @ arrays["keys"], arrays["mixed keys"], atol=1e-4)
    np.testing.assert_allclose(f @ arrays["values"], arrays["mixed values"], atol=1e-4)
    q = sequence_of(source).q[0].numpy()
    scores = q @ arrays["mixed keys"].T / 4.0
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(arrays["weights"], weights, atol=1e-5)
    np.testing.assert_allclose(arrays["lifted"], weights @ f, atol=1e-4)
    np.testing.assert_allclose(arrays["exact"], dense(source, causal=False), atol=1e-6)


def test_nystroms_product_is_that_of_its_three_factors():
    arrays = Landmarks(source=synthetic(n=40), rank=8).run().arrays
    product = arrays["near"].astype(float) @ arrays["inverse"] @ arrays["far"]
    np.testing.assert_allclose(arrays["product"], product, atol=1e-4)
    np.testing.assert_allclose(arrays["near"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(arrays["far"].sum(1), 1, atol=1e-5)
    between = arrays["between"].astype(float)
    np.testing.assert_allclose(between @ arrays["inverse"] @ between, between, atol=1e-2)


# --------------------------------------------------------------------------------------------------------- charts


def test_the_factors_are_drawn_to_scale():
    arrays = Factors(source=synthetic(n=64), rank=16).run().arrays
    chart = charts.factors_chart(arrays["left"], arrays["right"], arrays["rebuilt"], Theme(), n=64).to_dict()
    map_, left, right = chart["datasets"][chart["data"]["name"]]
    assert (left["x2"] - left["x"], left["y2"] - left["y"]) == (16, 64)
    assert (right["x2"] - right["x"], right["y2"] - right["y"]) == (64, 16)
    assert (map_["x2"] - map_["x"], map_["y2"] - map_["y"]) == (64, 64)
    assert left["x2"] < map_["x"]
    assert right["y2"] < map_["y"]
    one = Factors(source=synthetic(n=64), rank=1).run().arrays
    thin = charts.factors_chart(one["left"], one["right"], one["rebuilt"], Theme(), n=64).to_dict()
    assert all(frame["x2"] > frame["x"] for data in thin["datasets"].values() for frame in data)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_chart_is_a_valid_one(mode, errors):
    theme = Theme(mode=mode)
    spectrum = Spectrum(source=synthetic("sink", 64)).run()
    table = spectrum.tables["spectrum"]
    lengths = RankAgainstLength(source=synthetic(n=32), seeds=2).run().tables["curves"]
    law = GaussianLaw(source=synthetic(n=32, causal=False), seeds=2).run().tables["curves"]
    drawn = [
        charts.scree_chart(table, theme, k=4),
        charts.energy_chart(table, theme, k=4, share=0.99),
        charts.tail_chart(table, theme, k=4),
        charts.error_chart(errors.tables["error"], theme, value="error", control=1.0, what="the output", k=8),
        charts.error_chart(errors.tables["map_error"], theme, value="map_error", control=1.0, what="the map", k=8),
        charts.length_chart(lengths, theme),
        charts.law_chart(law, theme, shared=1.28, apart=1.41),
        matrix_chart(spectrum.arrays["exact"], theme, x_title="key", y_title="query"),
    ]
    for chart in drawn:
        assert "autosize" not in chart.to_dict() or chart.to_dict()["autosize"]


# ---------------------------------------------------------------------------------------------------- real heads


def story(layer, head, sample="story.txt"):
    return TextSource(sample=sample, length=512, layer=layer, heads=(head,))


@pytest.mark.model
@pytest.mark.parametrize(
    ("layer", "head", "kind", "rank", "without"),
    [(0, 6, "low", (70, 80), (70, 80)), (16, 0, "high", (488, 490), (488, 490)), (26, 5, "disguise", (4, 6), (48, 58))],
)
def test_the_default_heads_have_the_ranks_that_the_page_tells(layer, head, kind, rank, without):
    found = rank_finding(Spectrum(source=story(layer, head)).run())
    assert found.kind == kind
    assert rank[0] <= found.rank <= rank[1]
    assert without[0] <= found.without <= without[1]
    assert found.uniform == 32


@pytest.mark.model
def test_the_examples_say_what_is_so():
    examples = json.loads((Path(__file__).parents[2] / "assets/examples/low_rank.json").read_text(encoding="utf-8"))
    assert {example["name"]: example["expects"] for example in examples} == {
        "low": "low",
        "high": "high",
        "disguise": "disguise",
        "uniform": "uniform",
    }
    # The previous token: at k = 64 the diagonal breaks up.
    assert float(Factors(source=story(16, 0), rank=64).run().arrays["error"]) > 0.8
    # The sink: one column takes nearly all of the weight, and one direction rebuilds it.
    disguised = Spectrum(source=story(26, 5)).run()
    assert list(disguised.arrays["sinks"]) == [0]
    assert exact_rows(sequence_of(story(26, 5)))[0, 64:, 0].mean() > 0.6
    assert rank_of(disguised.arrays["values"], 0.95) == 1
    # Without it the singular values of the rest, each as a share of all of them, rise.
    whole, rest = disguised.arrays["values"], disguised.arrays["without sinks"]
    assert (rest[1:60] / rest.sum() > whole[1:60] / whole.sum()).all()


def test_the_kept_decompositions_are_few():
    assert decomposition._decompositions._size <= 8
