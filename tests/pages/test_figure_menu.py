"""A figure's menu: what it gives to take home stays good while the page draws the figure again."""

import pytest

from tests.pages.test_every_page import SMALL, opened, shown

pytestmark = pytest.mark.usefixtures("_components_sought_once", "_shapes_unchecked")


def links(app):
    return {button.proto.label: button.proto.url for button in app.get("download_button")}


@pytest.mark.model
def test_the_links_of_a_table_and_of_a_study_outlive_another_drawing():
    app = shown(opened("low_rank", **SMALL))
    app.session_state["menu of factors"] = True
    before = links(shown(app.run()))
    assert before["CSV"] and before["Study"]
    assert links(shown(app.run())) == before
