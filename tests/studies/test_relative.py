"""The positions page's numbers against definitions written out in float64, its sentences, its examples."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from longattn_core.charts.figures import relative as charts
from longattn_core.charts.style.theme import Theme
from longattn_core.measures.theory.positions import rotary_frequencies, yarn_frequencies, yarn_temperature
from longattn_core.mechanisms.relative import Relative
from longattn_core.numerics.rotary import rotate
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.studies.base.study import Result, Setting, sequence_of
from longattn_core.studies.relative.added import Added, Distances
from longattn_core.studies.relative.curves import Curves, curve_finding
from longattn_core.studies.relative.rotary import SCALINGS, Beyond, Clocks, unseen_angles
from longattn_core.studies.relative.schemes import schemes, unturned, usual_base
from longattn_core.studies.relative.shifts import Shifts, changed_by_shift
from longattn_core.studies.relative.theory import NONE, STAGES, Skew, Tables


def gaussian(n=48, **dials):
    return SyntheticSource.model_validate({"settings": {"kind": "gaussian", "n": n, "d": 16, "e": 8, **dials}})


def setting(**dials):
    return Setting.of(Relative(**dials))


def turned(x, positions, base=10_000.0):
    """Rows of x turned by their positions, channel pair by channel pair, in complex numbers."""
    pairs = x[..., 0::2] + 1j * x[..., 1::2]
    pairs = pairs * np.exp(1j * np.asarray(positions)[:, None] * rotary_frequencies(x.shape[-1], base))
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)


def heads(source):
    sequence = sequence_of(source)
    return tuple(x[0].double().numpy() for x in (sequence.q, sequence.k, sequence.v))


def softmax(scores, causal=True):
    if causal:
        scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


# --------------------------------------------------------------------------------------------------------- curves


def curve(result, scheme):
    table = result.tables["curves"]
    return table[table["scheme"] == scheme].set_index("distance")["bias"]


def test_curves_are_those_of_the_papers_formulas():
    source = gaussian()
    result = Curves(source=source, chosen=setting()).run()
    distance = np.arange(48)
    np.testing.assert_allclose(curve(result, "ALiBi"), -(2.0**-8) * distance, rtol=1e-6)
    q, k, _ = heads(source)
    mean_q, mean_k = q.mean(0), k.mean(0)
    turned_q = turned(np.tile(mean_q, (48, 1)), distance)
    np.testing.assert_allclose(curve(result, "RoPE"), ((turned_q - mean_q) @ mean_k) / 4, atol=1e-5)
    waves = np.exp(1j * distance[:, None] * rotary_frequencies(16))
    np.testing.assert_allclose(curve(result, "Sinusoids"), waves.real.sum(1) / 4, atol=1e-5)
    assert (curve(result, "Shaw's vectors")[16:].diff().dropna().abs() < 1e-6).all(), "beyond the clipping: one vector"


def test_a_stronger_scheme_adds_more_and_none_adds_nothing():
    source = gaussian()
    one, three, none = (Curves(source=source, chosen=setting(strength=s)).run() for s in (1.0, 3.0, 0.0))
    for scheme in ("ALiBi", "T5's buckets", "Music Transformer", "Shaw's vectors"):
        np.testing.assert_allclose(curve(three, scheme), 3 * curve(one, scheme), rtol=1e-5, atol=1e-6)
    assert none.tables["curves"]["bias"].abs().max() < 1e-6


def test_keys_ahead_are_drawn_where_they_can_be_seen():
    both = Curves(source=gaussian(causal=False), chosen=setting()).run().tables["curves"]
    assert (both["distance"].min(), both["distance"].max()) == (-47, 47)
    behind = Curves(source=gaussian(), chosen=setting()).run().tables["curves"]
    assert behind["distance"].min() == 0


def test_every_scheme_is_there_once_and_the_chosen_one_is_itself():
    for chosen in (
        Relative(),
        Relative(variant="rope", base=500.0, trained=16),
        Relative(variant="rope", scaling="yarn"),
        Relative(variant="shaw", clip=3, strength=0.5),
    ):
        found = schemes(chosen, 48)
        assert found.count(chosen) == 1
        assert len({scheme.label for scheme in found}) == len(found)
        assert {scheme.variant for scheme in found} == {shown.variant for shown in Relative.variants()}
        assert {scheme.strength for scheme in found} == {chosen.strength}
    assert {"RoPE, interpolated", "RoPE, NTK", "RoPE, YaRN"} <= {scheme.label for scheme in schemes(Relative(trained=16), 48)}
    assert not any(scheme.scaling != "none" for scheme in schemes(Relative(trained=48), 48))


def test_a_rotated_sequence_is_turned_back_first():
    plain = sequence_of(gaussian())
    frequencies = torch.from_numpy(rotary_frequencies(16, 777.0))
    q, k = (rotate(x, plain.token_positions, frequencies) for x in (plain.q, plain.k))
    back = unturned(replace(plain, q=q, k=k, rotary=frequencies))
    torch.testing.assert_close(back.q, plain.q, rtol=0, atol=1e-5)
    torch.testing.assert_close(back.k, plain.k, rtol=0, atol=1e-5)
    assert back.rotary is None
    assert unturned(plain) is plain


def test_a_scheme_that_refuses_is_named_and_the_others_stay():
    odd = Curves(source=uploaded(), chosen=setting(variant="rope")).run()
    assert "RoPE refusal" in odd.words
    assert "RoPE" not in set(odd.tables["curves"]["scheme"])
    assert curve_finding(odd).kind == "refused"


def uploaded(n=24, width=5):
    import io

    from longattn_core.sequences import library
    from longattn_core.sequences.sources import UploadedSource

    rng, file = np.random.default_rng(3), io.BytesIO()
    np.savez(file, **{name: rng.normal(size=(n, width)).astype(np.float32) for name in "qkv"})
    return UploadedSource(sha256=library.put(file.getvalue()))


# ------------------------------------------------------------------------------------------------------ sentences


def made(bias, chosen=None):
    chosen = chosen or Relative()
    bias = np.asarray(bias, float)
    table = pd.DataFrame(
        {
            "scheme": chosen.label,
            "distance": np.arange(len(bias)),
            "bias": bias,
            "parameters": chosen.parameters,
            "variant": chosen.variant,
            "chosen": True,
        }
    )
    return Result(study=Curves(source=gaussian(8), chosen=Setting.of(chosen)), tables={"curves": table})


WAVE = np.cos(np.arange(200) / 3)


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (made([0.0]), "alone"),
        (made([0.0, 1.0]), "alone"),
        (made(np.zeros(200)), "flat"),
        (made(-0.1 * np.arange(200)), "falls"),
        (made(0.1 * np.arange(200)), "rises"),
        (made(WAVE), "swings"),
        (made(WAVE - 0.1 * np.arange(200)), "falls"),
        (made(WAVE, Relative(variant="sinusoidal")), "absolute"),
        (made(np.zeros(200), Relative(variant="sinusoidal", strength=0.0)), "flat"),
    ],
)
def test_the_kind_of_answer_follows_from_the_curve(result, kind):
    assert curve_finding(result).kind == kind


def test_the_findings_numbers_are_those_of_the_curve():
    bias = np.concatenate([[9.0], np.linspace(2, 0, 20)])
    found = curve_finding(made(bias))
    distance = np.arange(1, 21)
    near, far = bias[1:][distance <= 8].mean(), bias[1:][distance > 10].mean()
    assert found.near == pytest.approx(near)
    assert found.far == pytest.approx(far)
    assert found.factor == pytest.approx(math.exp(near - far))
    assert (found.peak, found.top, found.reach) == (1, 2.0, 20), "the query itself is at no distance"
    assert not found.untrained
    assert curve_finding(made(bias, Relative(variant="t5"))).untrained


# -------------------------------------------------------------------------------------------------- S_rel, shifts


def test_s_rel_is_what_each_formula_adds():
    source = gaussian(24)
    q, k, _ = heads(source)
    lags = np.arange(24)[:, None] - np.arange(24)
    alibi = Added(source=source, chosen=setting()).run().arrays
    np.testing.assert_allclose(alibi["added"], -(2.0**-8) * np.abs(lags), atol=1e-5)
    assert float(alibi["diagonal"]) < 1e-5
    rope = Added(source=source, chosen=setting(variant="rope")).run().arrays
    expected = (turned(q, range(24)) @ turned(k, range(24)).T - q @ k.T) / 4
    np.testing.assert_allclose(rope["added"], expected, atol=1e-5)
    np.testing.assert_allclose(rope["content"], q @ k.T / 4, atol=1e-5)
    means = {lag: expected[lags == lag].mean() for lag in range(-23, 24)}
    worst = max(np.abs(expected[lags == lag] - mean).max() for lag, mean in means.items())
    assert float(rope["diagonal"]) == pytest.approx(worst, rel=1e-4)
    places = Added(source=source, chosen=setting(variant="sinusoidal")).run().arrays
    assert float(places["diagonal"]) > 0.1


def test_only_places_change_under_a_shift():
    result = Shifts(source=gaussian(), chosen=setting(trained=16), tokens=32, shifts=(0, 7, 1000)).run()
    assert changed_by_shift(result) == ("Sinusoids",)
    table = result.tables["shifts"]
    assert {"RoPE, YaRN", "RoPE, NTK", "Transformer-XL"} <= set(table["scheme"])
    rest = table[table["scheme"] != "Sinusoids"]
    assert rest["score"].max() < 1e-8
    assert rest["moved"].max() < 1e-8
    assert table[(table["shift"] == 0)]["score"].max() == 0
    own = table[(table["scheme"] == "Sinusoids") & (table["shift"] == 7)].iloc[0]
    q, k, _ = (x[:32] for x in heads(gaussian()))

    def rows(start):
        angles = np.arange(start, start + 32)[:, None] * rotary_frequencies(16)
        waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(32, 16)
        return softmax((q + waves) @ (k + waves).T / 4)

    assert own["moved"] == pytest.approx(0.5 * np.abs(rows(7) - rows(0)).sum(1).mean(), rel=1e-5)
    silent = Shifts(source=gaussian(), chosen=setting(strength=0.0), tokens=16, shifts=(5,)).run()
    assert changed_by_shift(silent) == ()


def test_weight_within_a_distance_is_that_of_the_rows():
    source = gaussian(64)
    result = Distances(source=source, chosen=setting(strength=8.0)).run()
    within = result.tables["within"]
    q, k, _ = heads(source)
    rows = softmax(q @ k.T / 4)[32:]
    lags = np.arange(32, 64)[:, None] - np.arange(64)
    expected = [(rows * ((lags >= 0) & (lags <= d))).sum(1).mean() for d in range(64)]
    alone = within[within["scheme"] == "content alone"]["share"]
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    halves = result.tables["halves"].set_index("scheme")["half"]
    assert halves["content alone"] == next(d for d, share in enumerate(expected) if share >= 0.5)
    for _, group in within.groupby("scheme"):
        assert group["share"].is_monotonic_increasing
        assert group["share"].iloc[-1] == pytest.approx(1, abs=1e-5)


# --------------------------------------------------------------------------------------------------------- clocks


def test_the_clocks_add_up_to_the_score():
    source = gaussian()
    result = Clocks(source=source, position=40, distance=9, base=500.0).run()
    hands, arrays = result.tables["hands"], result.arrays
    q, k, _ = heads(source)
    score = float(turned(q, range(48), 500.0)[40] @ turned(k, range(48), 500.0)[31]) / 4
    assert float(arrays["score"]) == pytest.approx(score, abs=1e-6)
    assert hands["adds"].sum() == pytest.approx(score, abs=1e-6)
    assert float(arrays["content"]) == pytest.approx(float(q[40] @ k[31]) / 4, abs=1e-6)
    frequencies = rotary_frequencies(16, 500.0)
    np.testing.assert_allclose(hands["wavelength"], 2 * np.pi / frequencies)
    np.testing.assert_allclose(hands["query"], np.degrees((40 * frequencies) % (2 * np.pi)), atol=1e-9)
    np.testing.assert_allclose(hands["apart"], 9 * frequencies / (2 * np.pi))
    first = Clocks(source=source, position=3, distance=9).run()
    assert int(first.arrays["key"]) == 0


def test_past_the_trained_length_interpolation_reads_shorter_distances():
    source = gaussian()
    result = Beyond(source=source, trained=100, stretch=4.0, lag=20).run()
    scores = result.tables["scores"].set_index(["scaling", "distance"])["score"]
    q, k, _ = heads(source)
    mean_q, mean_k = q.mean(0), k.mean(0)

    def score(distance):
        return float(turned(mean_q[None], [distance])[0] @ mean_k) / 4

    assert scores[SCALINGS["none"], 20] == pytest.approx(score(20), abs=1e-6)
    assert scores[SCALINGS["interpolation"], 20] == pytest.approx(score(5), abs=1e-6)
    frequencies = yarn_frequencies(rotary_frequencies(16), 4.0, trained=100)
    pairs = (mean_q[0::2] + 1j * mean_q[1::2]) * (mean_k[0::2] - 1j * mean_k[1::2])
    sharpened = float(yarn_temperature(4.0)) ** 2 * (pairs * np.exp(20j * frequencies)).real.sum() / 4
    assert scores[SCALINGS["yarn"], 20] == pytest.approx(sharpened, abs=1e-6)
    lag = result.tables["lag"]
    at = lag[(lag["scaling"] == SCALINGS["yarn"]) & (lag["length"] == 400)]["score"].iloc[0]
    assert at == pytest.approx(sharpened, abs=1e-6)
    plain = lag[lag["scaling"] == SCALINGS["none"]]["score"]
    assert np.ptp(plain) < 1e-12, "plain RoPE does not know how long the text is"
    at = lag[(lag["scaling"] == SCALINGS["interpolation"]) & (lag["length"] == 400)]["score"].iloc[0]
    assert at == pytest.approx(score(5), abs=1e-6)
    # Up to the trained length all are one.
    start = lag[lag["length"] == 100]["score"]
    assert np.ptp(start) < 1e-12


def test_unseen_angles_are_those_that_training_did_not_reach():
    frequencies = rotary_frequencies(64)
    unfinished = float((2047 * frequencies < 2 * np.pi).mean())
    share, worst = unseen_angles(64, 10_000.0, "none", 2048, 8192)
    assert share == unfinished
    assert worst == pytest.approx(8191 / 2047)
    for kept in ("interpolation", "yarn"):
        assert unseen_angles(64, 10_000.0, kept, 2048, 8192) == (0.0, 1.0)
    _share, ntk = unseen_angles(64, 10_000.0, "ntk", 2048, 8192)
    assert 1.01 < ntk < worst
    assert unseen_angles(64, 10_000.0, "none", 2048, 2048) == (0.0, 1.0)


def test_an_odd_width_is_refused_in_a_sentence():
    for study in (Clocks(source=uploaded()), Beyond(source=uploaded())):
        with pytest.raises(ValueError, match="width must be even; it is 5"):
            study.run()


# --------------------------------------------------------------------------------------------------------- theory


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_the_frames_of_the_skew_lead_to_each_pairs_own_number(size):
    result = Skew(source=gaussian(), size=size).run()
    np.testing.assert_allclose(result.arrays["result"], result.arrays["looked_up"], atol=1e-12)
    cells = result.tables["cells"]
    frames = {stage: cells[cells["stage"] == stage] for stage in STAGES}
    last = frames["slice"]
    assert len(last) == size * size
    assert (last["distance"] == last["row"] - last["column"]).all()
    np.testing.assert_allclose(last["value"], result.arrays["result"].ravel(), atol=1e-12)
    # Every frame is the same line of numbers, cut at another place.
    line = frames["pad"].set_index("line")["value"]
    for stage in ("by_distance", "reshape", "slice"):
        own = frames[stage]
        np.testing.assert_array_equal(own["value"], line.loc[own["line"]])
    padded = frames["pad"]
    assert (padded["distance"] == NONE).sum() == size
    assert (padded.loc[padded["distance"] == NONE, "column"] == 2 * size - 1).all()
    # What is tinted in each frame is what is kept in the end.
    kept = {stage: set(frame.loc[frame["kept"], "line"]) for stage, frame in frames.items()}
    assert len(set(map(frozenset, kept.values()))) == 1
    assert len(kept["slice"]) == size * size


def test_the_staircase_and_the_slopes():
    tables = Tables(source=gaussian()).run().tables
    buckets = tables["buckets"].set_index("distance")["bucket"]
    assert list(buckets[:16]) == list(range(16))
    assert buckets[127] < 32
    assert set(buckets[128:]) == {31}
    assert buckets.is_monotonic_increasing
    both = Tables(source=gaussian(causal=False)).run().tables["buckets"].set_index("distance")["bucket"]
    assert both[-5] == both[5] + 16
    slopes = tables["slopes"]
    assert list(slopes["own"]) == [True]
    assert slopes["slope"].iloc[0] == 2.0**-8


# --------------------------------------------------------------------------------------------------------- charts


@pytest.mark.parametrize(("mode", "causal", "n"), [("light", True, 600), ("dark", False, 64)])
def test_every_chart_is_a_valid_one(mode, causal, n):
    theme, source, chosen = Theme(mode=mode), gaussian(n, causal=causal), setting(variant="rope", trained=32)
    curves = Curves(source=source, chosen=chosen).run().tables["curves"]
    shifts = Shifts(source=source, chosen=chosen, tokens=16, shifts=(0, 1, 10)).run().tables["shifts"]
    beyond = Beyond(source=source).run().tables
    tables = Tables(source=source).run().tables
    cells = Skew(source=source).run().tables["cells"]
    drawn = [
        charts.bias_chart(curves, theme),
        charts.within_chart(Distances(source=source, chosen=chosen).run().tables["within"], theme),
        charts.shift_chart(shifts, theme),
        charts.clocks_chart(Clocks(source=source).run().tables["hands"], theme),
        charts.beyond_chart(beyond["scores"], theme, trained=2048),
        charts.unseen_chart(beyond["unseen"], theme),
        charts.lag_chart(beyond["lag"], theme, distance=64),
        charts.turns_chart(beyond["pairs"], theme),
        charts.waves_chart(beyond["pairs"], theme, tokens=600),
        charts.staircase_chart(tables["buckets"], theme, reach=128),
        charts.slopes_chart(tables["slopes"], theme),
        *(charts.skew_chart(cells, theme, stage=stage) for stage in STAGES),
    ]
    for chart in drawn:
        assert chart.to_dict()["layer"]


def test_the_chosen_scheme_is_thick_and_drawn_numbers_are_dashed():
    curves = Curves(source=gaussian(), chosen=setting(variant="t5")).run().tables["curves"]
    assert set(curves.loc[curves["chosen"], "scheme"]) == {"T5's buckets"}
    chart = charts.bias_chart(curves, Theme()).to_dict()
    lines = [layer for layer in chart["layer"] if layer["mark"]["type"] == "line"]
    assert max(line["mark"]["strokeWidth"] for line in lines) == 3.5
    rows = next(rows for rows in chart["datasets"].values() if len(rows) > 100)
    untrained = {row["scheme"] for row in rows if row["untrained"]}
    assert untrained == {"Shaw's vectors", "Music Transformer", "Transformer-XL", "T5's buckets"}
    assert all(row["label"].endswith("(untrained)") for row in rows if row["untrained"])


# ---------------------------------------------------------------------------------------------------- real heads


@pytest.mark.model
def test_the_previous_token_head_finds_its_token_by_angles_alone():
    source = TextSource(sample="story.txt", length=512, layer=16, heads=(0,), rotary=False)
    base = usual_base(source)
    assert base == 100_000
    chosen = setting(variant="rope", base=base, trained=256)
    result = Curves(source=source, chosen=chosen).run()
    found = curve_finding(result)
    assert (found.kind, found.peak) == ("swings", 1)
    assert found.top == pytest.approx(5.0, abs=0.1)
    rotated = Curves(source=source.model_copy(update={"rotary": True}), chosen=chosen).run()
    # Turned and turned back in float32: the scores are some tens.
    np.testing.assert_allclose(curve(rotated, "RoPE"), curve(result, "RoPE"), atol=1e-3)
    halves = Distances(source=source, chosen=chosen).run().tables["halves"].set_index("scheme")["half"]
    assert halves["RoPE"] == 1
    assert halves["content alone"] > 100


@pytest.mark.model
def test_the_examples_say_what_is_so():
    examples = json.loads((Path(__file__).parents[2] / "assets/examples/relative.json").read_text(encoding="utf-8"))
    source = TextSource(sample="story.txt", length=512, layer=16, heads=(0,), rotary=False)
    for example in examples:
        dials = {
            name.rpartition(".")[2]: float(value) if value[0].isdigit() else value
            for name, value in example["sets"].items()
            if name.startswith("m.relative")
        }
        assert curve_finding(Curves(source=source, chosen=setting(**dials)).run()).kind == example["expects"]
    # Sinusoids: no straight diagonals.
    assert float(Added(source=source, chosen=setting(variant="sinusoidal")).run().arrays["diagonal"]) > 0.1
