"""The colours do what they promise: legible on every background, told apart by every eye, and never short of one."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn_core.charts.style.altair import altair_config, plotly_template, themed
from longattn_core.charts.style.colour import blend, contrast, distance, hexadecimal, rgb
from longattn_core.charts.style.scales import DIFFERENCE_FLOOR, WEIGHT_FLOOR, Scale, difference_scale, weight_scale
from longattn_core.charts.style.symbols import GUEST_SYMBOLS, SYMBOLS
from longattn_core.charts.style.theme import (
    BACKGROUNDS,
    BELOW,
    FAMILY_HUES,
    FUTURE,
    LEAST_CONTRAST,
    LEVELS,
    MECHANISM_COLOURS,
    NEVER,
    Theme,
)

MODES = ("light", "dark")


def colours(mode):
    return {key: Theme(mode=mode).style(key).colour for key in MECHANISM_COLOURS}


@pytest.mark.parametrize("mode", MODES)
def test_every_mechanism_is_legible_on_both_backgrounds(mode):
    worst = min(contrast(colour, ground) for colour in colours(mode).values() for ground in BACKGROUNDS[mode])
    assert worst >= LEAST_CONTRAST


@pytest.mark.parametrize(("vision", "least"), [("normal", 11.4), ("protan", 9.0), ("deutan", 9.1), ("tritan", 8.2)])
@pytest.mark.parametrize("mode", MODES)
def test_mechanisms_are_told_apart_by_every_eye(mode, vision, least):
    pairs = combinations(colours(mode).values(), 2)
    assert min(distance(one, two, vision) for one, two in pairs) >= least


def test_the_measure_of_distance_knows_black_from_white():
    # OKLab puts black at lightness 0 and white at 1, whatever the eye: an end that a wrong matrix would miss.
    for vision in ("normal", "protan", "deutan", "tritan"):
        assert distance("#000000", "#FFFFFF", vision) == pytest.approx(100, abs=0.1)
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21, abs=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_text_reads_and_edges_show(mode):
    theme = Theme(mode=mode)
    for ground in BACKGROUNDS[mode]:
        assert min(contrast(colour, ground) for colour in (theme.text, theme.muted, theme.mark)) >= 4.5
        assert contrast(theme.border, ground) >= 3


@pytest.mark.parametrize("mode", MODES)
def test_weights_run_from_paper_to_strong_without_turning_back(mode):
    weights = Theme(mode=mode).weights
    ends = [(3, 5, 18), (234, 252, 253)] if mode == "dark" else [(234, 252, 253), (3, 5, 18)]
    assert weights.shape == (256, 3)
    assert [tuple(weights[0].tolist()), tuple(weights[-1].tolist())] == ends
    light = weights.astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) * (1 if mode == "dark" else -1) > 0).all()


def test_weights_are_the_colours_that_plotly_calls_ice():
    from plotly.colors import cmocean

    anchors = [tuple(int(part) for part in colour[4:-1].split(",")) for colour in cmocean.ice]
    drawn = Theme(mode="dark").weights[np.round(np.linspace(0, 255, len(anchors))).astype(int)]
    # The anchors do not fall on whole steps of 256: half a step between neighbours is 4 at the most.
    assert np.abs(drawn.astype(int) - np.array(anchors)).max() <= 4


@pytest.mark.parametrize("mode", MODES)
def test_differences_have_the_background_in_the_middle(mode):
    theme = Theme(mode=mode)
    assert hexadecimal(theme.differences[LEVELS // 2]) == theme.background
    assert [hexadecimal(theme.differences[end]) for end in (0, -1)] == [theme.lost, theme.added]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["log", "linear", "difference"])
def test_never_looked_at_is_neither_paper_nor_the_future(mode, kind):
    theme = Theme(mode=mode)
    palette = theme.palette(kind)
    assert palette.shape == (256, 3)
    assert hexadecimal(palette[NEVER]) == theme.never
    assert len({tuple(palette[code].tolist()) for code in (0, BELOW, FUTURE, NEVER)}) >= (3 if kind == "difference" else 4)


def test_a_twelfth_mechanism_gets_a_free_legible_hue_of_its_family():
    for mode in MODES:
        for family, (start, stop) in FAMILY_HUES.items():
            style = Theme(mode=mode).style("newcomer", family)
            assert style.colour not in colours(mode).values()
            assert min(contrast(style.colour, ground) for ground in BACKGROUNDS[mode]) >= LEAST_CONTRAST
            assert style.symbol not in SYMBOLS.values()
            assert style == Theme(mode=mode).style("newcomer", family)
            assert start <= stop


def test_many_newcomers_differ_and_do_not_depend_on_the_order_of_loading():
    guests = tuple((f"guest{i}", "by place") for i in range(12))
    theme, other = Theme(guests=guests), Theme(guests=guests[::-1])
    styles = [theme.style(key) for key, _ in guests]
    assert len({style.colour for style in styles}) == 12
    assert [other.style(key) for key, _ in guests] == styles
    assert len({style.symbol.name for style in styles}) == len(GUEST_SYMBOLS)


def test_a_theme_welcomes_newcomers_once_and_keeps_those_it_has():
    theme = Theme(guests=(("old", "by place"),))
    more = theme.welcoming([("exact", ""), ("new", "by content"), ("new:2", "by content"), ("old", "")])
    assert more.guests == (("new", "by content"), ("old", "by place"))
    assert more.style("new:2") == more.style("new")
    assert theme.welcoming([("exact", "")]) is theme


def test_a_mechanism_of_no_known_family_is_still_drawn():
    assert Theme(mode="dark").style("odd", "no such family").colour.startswith("#")


def test_settings_of_one_mechanism_share_its_colour():
    theme = Theme()
    assert theme.style("lsh:2") == theme.style("lsh")


@given(st.sampled_from([weight_scale(), weight_scale(log=False), difference_scale(), weight_scale(top=3.0)]), st.floats(0, 1))
def test_a_scale_undoes_itself(scale, position):
    assert float(scale.position(scale.value(position))) == pytest.approx(position, abs=1e-9)


def test_scales_end_where_they_say():
    assert weight_scale().position([0.0, WEIGHT_FLOOR, 1.0, 2.0]).tolist() == [0, 0, 1, 1]
    assert float(weight_scale().position(0.01)) == pytest.approx(0.5, abs=1e-12)
    assert weight_scale(log=False).position([0.0, 0.25]).tolist() == [0, 0.25]
    assert difference_scale().position([-1.0, 0.0, 1.0]).tolist() == [0, 0.5, 1]
    small = float(difference_scale().position(DIFFERENCE_FLOOR))
    assert 0.5 < small < 0.56
    assert np.isnan(weight_scale().position(np.nan))


@pytest.mark.parametrize("scale", [weight_scale(), weight_scale(log=False), difference_scale(), difference_scale(top=0.5)])
def test_ticks_stand_where_their_numbers_are(scale):
    for at, label in scale.ticks():
        value = float(label.replace("+", "").replace("\N{MINUS SIGN}", "-"))
        assert at == pytest.approx(float(scale.position(value)), abs=1e-6)


@pytest.mark.parametrize("bad", [{"kind": "log", "top": 1e-5}, {"kind": "linear", "top": float("inf")}])
def test_a_scale_that_cannot_be_is_refused_in_a_sentence(bad):
    with pytest.raises(ValueError, match=r"allowed|needs"):
        Scale(**bad)


def test_blends_keep_their_ends_and_presenting_enlarges():
    steps = blend("#5E3C99", "#FFFFFF", 7)
    assert [hexadecimal(steps[0]), hexadecimal(steps[-1])] == ["#5E3C99", "#FFFFFF"]
    assert Theme(presenting=True).size("tick") == 18
    assert rgb("#0A0B0C") == (10, 11, 12)
    with pytest.raises(ValueError, match="allowed are"):
        Theme().size("huge")


def test_charts_take_the_theme_along_and_leave_the_process_alone():
    import altair as alt

    before = alt.theme.active
    dark = themed(alt.Chart().mark_point(), Theme(mode="dark"))
    light = themed(alt.Chart().mark_point(), Theme(mode="light"))
    assert dark.to_dict()["config"]["background"] == "#0E1117"
    assert light.to_dict()["config"]["background"] == "#FFFFFF"
    assert altair_config(Theme())["legend"] == {"disable": True}
    assert alt.theme.active == before
    template = plotly_template(Theme(mode="dark"))
    assert template.layout.paper_bgcolor == "#0E1117"
    assert template.layout.showlegend is False
    assert list(template.layout.colorway) == list(colours("dark").values())
