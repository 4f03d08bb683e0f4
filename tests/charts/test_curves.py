"""Curves and group colours: their data, labels and scales."""

import altair as alt
import numpy as np
import pandas as pd
import pytest

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart, spread
from longattn_core.charts.style import altair as styles
from longattn_core.charts.style.altair import layered, selecting, specification
from longattn_core.charts.style.colour import contrast, rgb
from longattn_core.charts.style.group_colours import group_colours
from longattn_core.charts.style.theme import Theme
from longattn_core.export.images import chart_to_svg

THEME = Theme()


def table():
    return pd.DataFrame(
        {
            "m": [4, 8, 16] * 2,
            "error": [1.0, 0.5, 0.25, 2.0, np.nan, 0.0],
            "low": [0.8, 0.4, 0.2, 1.5, np.nan, 0.0],
            "high": [1.2, 0.6, 0.3, 2.5, np.nan, 0.0],
            "curve": ["favor"] * 3 + ["trig"] * 3,
        }
    )


def drawn(**options):
    x = CurveAxis(column="m", title="features", log=options.pop("log_x", False))
    y = CurveAxis(column="error", title="error (share)", log=options.pop("log_y", False))
    series = CurveSeries(column="curve", keys=options.pop("keys", {}), band=options.pop("band", None))
    return curves_chart(options.pop("table", table()), THEME, x=x, y=y, series=series, **options)


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
    spec = drawn(log_y=True).to_dict()
    rows = next(rows for rows in spec["datasets"].values() if "curve" in rows[0] and "m" in rows[0])
    assert [row["error"] for row in rows] == [1.0, 0.5, 0.25, 2.0]


def test_every_series_is_named_at_its_end_in_its_colour():
    spec = drawn(keys={"favor": "favor"}).to_dict()
    (text,) = [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    colour = text["encoding"]["color"]
    inks = dict(zip(colour["scale"]["domain"], colour["scale"]["range"], strict=True))
    labels = {row["its label"]: inks[row[colour["field"]]] for row in spec["datasets"][text["data"]["name"]]}
    assert set(labels) == {"favor", "trig"}
    assert labels["favor"] == THEME.style("favor").colour
    assert labels["trig"] != labels["favor"]


def test_the_control_is_a_dashed_line_with_its_name():
    spec = drawn(rules=[(0.7, "mean of the visible values")]).to_dict()
    rules = [layer for layer in spec["layer"] if layer["mark"]["type"] == "rule"]
    assert rules[0]["mark"]["strokeDash"] == [6, 4]
    assert any("mean of the visible values" in str(rows) for rows in spec["datasets"].values())


def test_the_domain_holds_the_intervals_and_the_controls():
    spec = drawn(band=("low", "high"), rules=[(5.0, "control")]).to_dict()
    line = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "line")
    low, high = line["encoding"]["y"]["scale"]["domain"]
    assert low <= 0.0
    assert high >= 5.0


def test_it_can_be_drawn_into_a_file_and_an_empty_table_too():
    assert chart_to_svg(drawn(log_x=True, log_y=True, band=("low", "high"), marked=[(8, "now")])).startswith("<svg")
    assert chart_to_svg(drawn(table=table().iloc[:0])).startswith("<svg")


@pytest.mark.parametrize("places", [[], [5.0], [10.0, 10.0, 10.0], [0.0, 1.0, 299.0, 300.0], [300.0, 0.0, 150.0]])
def test_labels_are_pushed_apart_and_stay_inside_in_their_order(places):
    out = spread(places, 15.0, 300.0)
    assert len(out) == len(places)
    assert all(-1e-9 <= place <= 300 + 1e-9 for place in out)
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.array(out)[order]) >= 15.0 - 1e-9).all()


def test_labels_that_are_far_apart_stay_where_they_are():
    assert spread([10.0, 100.0, 200.0], 15.0, 300.0) == [10.0, 100.0, 200.0]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_group_colours_are_legible_and_neighbours_differ(mode):
    theme = Theme(mode=mode)
    colours = group_colours(range(33), theme)
    assert len(set(colours.values())) >= 30
    for group, colour in colours.items():
        assert contrast(theme.ink_on(colour), colour) >= 4.5
        if group:
            assert max(abs(a - b) for a, b in zip(rgb(colour), rgb(colours[group - 1]), strict=True)) >= 16
    assert group_colours([7], theme)[7] == colours[7]


def test_layers_are_those_of_altair_and_a_selection_stands_above_them():
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    base = alt.Chart(table).encode(x="x:Q", y="y:Q")
    ours = layered(base.mark_line(), base.mark_point(), height=90, resolve={"scale": {"color": "independent"}})
    theirs = alt.layer(base.mark_line(), base.mark_point()).properties(height=90).resolve_scale(color="independent")
    assert chart_to_svg(ours) == chart_to_svg(theirs)
    pick = alt.selection_point(name="pick", fields=["x"])
    named = base.mark_point().properties(name="points")
    chosen = layered(named, base.mark_line(), params=[selecting(pick, "points")]).to_dict()
    lifted = alt.layer(named.add_params(pick), base.mark_line()).to_dict()
    assert (
        chosen["params"]
        == lifted["params"]
        == [{"name": "pick", "select": {"fields": ["x"], "type": "point"}, "views": ["points"]}]
    )
    assert chosen["layer"][0]["name"] == lifted["layer"][0]["name"]


def test_a_page_draws_on_a_canvas_without_a_sentence_a_mark():
    made = specification(alt.Chart(pd.DataFrame({"x": [1.0]})).mark_point().encode(x="x:Q"), Theme())
    assert made["usermeta"]["embedOptions"]["renderer"] == "canvas"
    assert made["config"]["aria"] is False


def test_a_page_sends_the_columns_that_its_chart_reads():
    table = pd.DataFrame({"x": [1.0, 2.0], "its end": [3.0, 4.0], "unread": ["a", "b"], "a.b": [0, 0]}, index=[5, 9])
    chart = alt.Chart(table).mark_point().encode(x="x:Q").transform_filter("datum['its end'] > 3")
    (sent,) = specification(chart, Theme())["datasets"].values()
    assert list(sent.columns) == ["x", "its end", "a.b"]
    assert list(sent.index) == [0, 1]
    assert sent["x"].tolist() == [1.0, 2.0]


def dots(*tables, x="x", size=30, **more):
    return layered(*(alt.Chart(table).mark_point(size=size).encode(alt.X(x, **more)) for table in tables), height=100)


def test_a_specification_is_written_once_for_charts_that_differ_in_cells_alone(monkeypatch):
    first, second = pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"x": [3.0]})
    before = specification(dots(first, first, second, size=31), Theme())
    monkeypatch.setattr(alt.LayerChart, "to_dict", lambda *_given, **_named: pytest.fail("written again"))
    other, another = pd.DataFrame({"x": [5.0]}), pd.DataFrame({"x": [6.0, 7.0]})
    after = specification(dots(other, other, another, size=31), Theme())
    sent = [after["datasets"].pop(name)["x"].tolist() for name in sorted(after["datasets"])]
    assert sent == [[5.0], [6.0, 7.0]]
    assert {**before, "datasets": {}} == after


@pytest.mark.parametrize(
    "other",
    [
        lambda t: dots(t, t.copy(), size=32),
        lambda t: dots(t, t, size=33),
        lambda t: dots(t, t, size=32.0),
        lambda t: dots(t, t, size=32, title="x"),
        lambda t: dots(t.astype(str), t.astype(str), size=32),
        lambda t: dots(t, t, size=32, x="x:O"),
        lambda t: dots(t, size=32),
    ],
)
def test_charts_that_differ_in_more_are_written_apart(other):
    table = pd.DataFrame({"x": [1.0, 2.0]})
    specification(dots(table, table, size=32), Theme())
    kept = styles._kept.copy()
    styles._kept.clear()
    alone = specification(other(table), Theme())
    styles._kept.update(kept)
    beside = specification(other(table), Theme())
    assert str(alone) == str(beside)
