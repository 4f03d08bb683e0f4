"""The home page in a real browser: deep link to a cold server, guess and reveal, click and ask, zoom, phone, picture kept."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import at_rest, chromium_path
from tests.support.paths import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.model]
APP = ROOT / "app.py"
ARTEFACTS = ROOT / "tests" / "artefacts"


@pytest.fixture
def home(serve, open_page):
    def opened(query="", **options):
        page = open_page(f"{serve(APP)}/{query}", **options)
        expect(page.locator(".rb-grid")).to_be_visible()
        at_rest(page)
        return page

    return opened


def state_of(page):
    return dict(parse_qsl(urlsplit(page.url).query))


def test_chromium_is_there():
    assert chromium_path(), "the browser tests need Chromium; on Debian: apt-get install chromium"


def test_a_deep_link_to_a_cold_server_opens_as_it_was_sent(serve, open_page):
    """The plain `streamlit run app.py`, whose first visitor of all comes by a link."""
    page = open_page(f"{serve(APP)}/?n=64&revealed=1&keys=8&query=40")
    expect(page.get_by_text("One token looks back over 41")).to_be_visible()
    expect(page.locator(".rb-grid")).to_be_visible()
    expect(page).to_have_title("LongAttn Lab")
    assert state_of(page) == {"n": "64", "revealed": "1", "keys": "8", "query": "40"}


def test_guess_then_reveal_then_the_link_gives_the_same_page(home):
    page = home("?n=128")
    hidden = page.get_by_role("button", name="finds it")
    assert hidden.count() > 8
    hidden.first.click()
    expect(page).to_have_url(re.compile("guess="))
    page.get_by_role("button", name="Reveal", exact=True).click()
    expect(page.get_by_text("You guessed")).to_be_visible()
    expect(page).to_have_url(re.compile("revealed=1"))
    at_rest(page)
    again = home(page.url.partition("/?")[2].join(["?", ""]))
    expect(again.get_by_text("You guessed")).to_be_visible()
    assert again.locator(".rb-grid").inner_text() == page.locator(".rb-grid").inner_text()


def test_the_weights_of_hidden_ribbons_are_not_sent(home):
    page = home("?n=128")
    assert page.locator(".rb-hidden").count() > 8
    shown = page.locator(".rb-grid").inner_text()
    assert "overlap" in shown
    assert shown.count("never") == 0


def test_clicking_a_word_makes_it_the_query(home):
    page = home("?n=128&revealed=1")
    page.locator(".rb-words span").nth(60).click()
    expect(page).to_have_url(re.compile("query=60"))
    expect(page.get_by_text("One token looks back over 61")).to_be_visible()


def test_clicking_a_pair_of_a_map_asks_why(home):
    page = home("?n=128&revealed=1")
    stage = page.locator(".am-stage").nth(1)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    stage.click(position={"x": box["width"] * 0.2, "y": box["height"] * 0.8})
    # The map's own status line names the pair too.
    said = page.locator("[data-testid=stAlertContentInfo]").filter(has_text="→")
    expect(said.get_by_text("exact", exact=False).first).to_be_visible()


def test_state_survives_a_change_of_source(home):
    page = home("?n=128&revealed=1&keys=32")
    page.get_by_role("radio", name="Synthetic").or_(page.get_by_role("button", name="Synthetic")).first.click()
    expect(page).to_have_url(re.compile("source=synthetic"))
    page.get_by_role("radio", name="Text").or_(page.get_by_role("button", name="Text", exact=True)).first.click()
    expect(page.get_by_text("One token looks back over 128")).to_be_visible()
    # The address follows at the end of a run.
    expect(page).to_have_url(re.compile("source=text"))
    assert state_of(page) == {"source": "text", "n": "128", "revealed": "1", "keys": "32"}


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1440, True), (390, False), (390, True)])
def test_nothing_scrolls_sideways_and_a_picture_is_kept(home, width, dark):
    page = home("?revealed=1", width=width, dark=dark)
    expect(page.locator(".am-map").first).to_be_attached()
    page.wait_for_function("document.fonts.status === 'loaded'")
    at_rest(page)
    overflow = page.evaluate(
        "(() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth; })()"
    )
    assert overflow <= 0
    ARTEFACTS.mkdir(exist_ok=True)
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(height, 6000)})
    page.screenshot(path=ARTEFACTS / f"home-{width}-{'dark' if dark else 'light'}.png")


def test_presenting_shows_one_large_picture(home):
    page = home("?present=1&n=128")
    expect(page.locator("[data-testid=stSidebar]")).to_be_hidden()
    expect(page.locator(".am-stage")).to_have_count(0)
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('h1')).fontSize)") >= 40


def test_the_figure_menu_gives_every_format(home, tmp_path):
    page = home("?n=64&revealed=1")
    page.get_by_role("button", name="⋯").first.click()
    for label, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("CSV", b"position [token]"), ("Study", b"{")):
        with page.expect_download() as download:
            page.get_by_role("button", name=label, exact=True).first.click()
        saved = tmp_path / label
        download.value.save_as(saved)
        assert Path(saved).read_bytes().lstrip().startswith(begins), label
    expect(page.get_by_text("result = side_by_side_compare.run()").first).to_be_visible()
