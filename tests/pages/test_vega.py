"""Charts stand still while a dial moves: only their data changes, so that the browser builds none of them anew."""

import pandas as pd
import pytest

from longattn_core import jobs
from pages.kit import vega
from tests.pages.test_every_page import SMALL, opened, shown
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("_components_sought_once", "_shapes_unchecked")

STILL = {
    "low_rank": ("m.low_rank.rank", "4", "8"),
    "favor": ("m.favor.features", "64", "72"),
    "window": ("m.window.width", "8", "16"),
    "segmented": ("m.segmented.width", "8", "16"),
    "hierarchical": ("m.hierarchical.levels", "1", "2"),
}


def charts(page, **query):
    app = shown(opened(page, **SMALL, **query))
    drawn = [element.proto for element in app.get("vega_lite_chart")]
    assert drawn
    return [(chart.spec, chart.alt) for chart in drawn]


@pytest.mark.parametrize("page", STILL)
def test_a_move_of_the_dial_changes_no_specification(page, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", -1.0)
    dial, before, after = STILL[page]
    assert charts(page, **{dial: before}) == charts(page, **{dial: after})


def test_every_chart_of_a_page_is_drawn_in_one_place():
    users = [path for path in (ROOT / "pages").rglob("*.py") if "vega_lite_chart(" in path.read_text(encoding="utf-8")]
    assert [path.name for path in users] == [f"{vega.__name__.rpartition('.')[2]}.py"]


def test_a_table_goes_out_without_row_numbers_and_what_arrow_refuses_is_left_to_streamlit():
    table = pd.DataFrame({"share": [0.5, 1.0], "token": ["a", None]}, index=[7, 9])
    sent = vega._as_arrow(table)
    assert sent.column_names == ["share", "token"]
    assert sent.to_pydict() == {"share": [0.5, 1.0], "token": ["a", None]}
    odd = pd.DataFrame({"mixed": [1, "x"]})
    assert vega._as_arrow(odd) is odd
    assert vega._as_arrow([1, 2]) == [1, 2]
