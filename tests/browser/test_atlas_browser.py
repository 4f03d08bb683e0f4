"""Each page of the atlas in a real browser: one journey, its pictures at two widths in light and dark, a deep link."""

import re

import pytest
from playwright.sync_api import expect

from pages.kit.sections import examples
from tests.browser.conftest import at_rest
from tests.pages.test_every_page import PAGES
from tests.support.paths import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.model]
APP = ROOT / "app.py"
ARTEFACTS = ROOT / "tests" / "artefacts"
OVERFLOW = "(() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth; })()"
HELD_LINE = """
window.line = (() => {
  const listen = WebSocket.prototype.addEventListener;
  let held = null, ended = 0;
  WebSocket.prototype.addEventListener = function (kind, told, ...rest) {
    const heard = event => {
      // The only message of two bytes, a kind and nothing in it: no run is under way any more, and none on saving.
      ended += event.data.byteLength === 2;
      held ? held.push(() => told(event)) : told(event);
    };
    return listen.call(this, kind, kind === "message" ? heard : told, ...rest);
  };
  return {
    ended: () => ended,
    hold: () => { held = []; },
    // One after the other, as from a line: each in a task of its own.
    release: async () => {
      for (const tell of held) { tell(); await new Promise(next => setTimeout(next, 10)); }
      held = null;
    },
  };
})();
"""
"""Counts how often runs came to rest, and keeps back what the server sends from `line.hold()` to `line.release()`."""


@pytest.fixture
def room(serve, open_page):
    def opened(name, query="", **options):
        page = open_page(f"{serve(APP)}/{name}{query}", **options)
        expect(page.locator("h1")).to_be_visible()
        at_rest(page)
        return page

    return opened


def view(page, name):
    page.get_by_role("radio", name=name, exact=True).or_(page.get_by_role("button", name=name, exact=True)).first.click()
    at_rest(page)


def buttons_and_arrow_keys_lead_through_the_steps(page):
    steps = page.locator(".sp").first
    now = steps.locator(".sp-now")
    expect(now).to_contain_text(" of ")
    began = now.inner_text()
    at_the_end = steps.locator(".sp-forth").is_disabled()
    button, key = (".sp-back", "ArrowRight") if at_the_end else (".sp-forth", "ArrowLeft")
    steps.locator(button).click()
    expect(now).not_to_have_text(began)
    at_rest(page)
    # Wherever the press has left the focus: a button at its end has gone out.
    page.keyboard.press(key)
    expect(now).to_have_text(began)
    at_rest(page)


@pytest.mark.parametrize("name", PAGES)
def test_a_journey_through_the_page(room, name, tmp_path):
    """Guess, go through the steps, look closer, take a figure home, try something, and find all of it in the link again."""
    page = room(name, "?n=128")
    page.locator("[class*=st-key-predict] button").first.click()
    expect(page.get_by_role("button", name="Ask again").first).to_be_visible()
    at_rest(page)
    for label in ("Step", "Measure", "Theory"):
        view(page, label)
        expect(page).to_have_url(re.compile(f"{name}.view={label.lower()}"))
        assert page.locator("[data-testid=stAlertContentError]").count() == 0
        if label == ("Theory" if name == "relative" else "Step"):
            buttons_and_arrow_keys_lead_through_the_steps(page)
    menu = page.get_by_role("button", name="⋯").first
    menu.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).first.click()
    saved = tmp_path / "figure.csv"
    download.value.save_as(saved)
    assert len(saved.read_text(encoding="utf-8").splitlines()) >= 2
    page.keyboard.press("Escape")
    page.get_by_role("button", name=examples(name)[0]["label"], exact=True).click()
    expect(page.locator("[data-testid=stAlertContentInfo]").first).to_be_visible()
    at_rest(page)
    again = room(name, "?" + page.url.partition("?")[2])
    assert again.locator("h1").inner_text() == page.locator("h1").inner_text()


def test_a_dial_of_the_page_reaches_the_address_and_a_example_the_input_bar(room):
    page = room("window", "?n=128&m.window.width=64")
    bar = page.locator("[data-testid=stSidebar] [data-testid=stSlider]").filter(has_text="Tokens read")
    expect(bar).to_contain_text("128")
    page.locator("[data-testid=stMain] [data-testid=stSlider] input[type=range]").first.press("ArrowRight")
    expect(page).to_have_url(re.compile("m.window.width=128"))
    expect(bar).to_contain_text("128")
    page.get_by_role("button", name=examples("window")[-1]["label"], exact=True).click()
    expect(bar).to_contain_text("512")
    expect(page).to_have_url(re.compile("m.window.variant=selected"))
    at_rest(page)


def test_a_dial_whose_key_is_held_down_leaves_a_whole_page(room):
    """Runs that follow each other at once, while what they draw comes and goes."""
    page = room("window", "?n=128&m.window.width=64")
    dial = page.locator("[data-testid=stMain] [data-testid=stSlider] input[type=range]").first
    for _ in range(4):
        page.get_by_role("button", name=examples("window")[0]["label"], exact=True).click()
        for key in 4 * ["ArrowRight", "ArrowLeft"]:
            dial.press(key)
    at_rest(page)
    expect(page.locator("h1")).to_be_visible()
    expect(page.get_by_role("button", name="⋯").first).to_be_visible()
    assert page.get_by_role("dialog").count() == 0 and page.locator("[data-testid=stException]").count() == 0


def test_what_is_asked_for_again_while_an_answer_is_on_its_way_comes(room):
    """The browser lets go of what it was sent some runs ago, and the server must not count on its having it still."""
    page = room("window", "?n=128&m.window.width=64", before=HELD_LINE)
    dial = page.locator("[data-testid=stMain] [data-testid=stSlider] input[type=range]").first

    def run(key):
        ended = page.evaluate("line.ended()")
        dial.press(key)
        page.wait_for_function(f"line.ended() > {ended}")

    for key in ("Home", "ArrowRight"):
        run(key)
        at_rest(page)
    page.evaluate("line.hold()")
    run("ArrowRight")
    run("Home")
    page.evaluate("line.release()")
    at_rest(page)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_scrolls_sideways_and_pictures_are_kept(room, name):
    page = room(name)
    page.wait_for_function("document.fonts.status === 'loaded'")
    ARTEFACTS.mkdir(exist_ok=True)
    before = "light"
    for width, scheme in ((1440, "light"), (390, "light"), (390, "dark"), (1440, "dark")):
        page.set_viewport_size({"width": width, "height": 1000})
        if scheme != before:
            # The server draws in the colours that the browser named with its last run.
            page.emulate_media(color_scheme=scheme)
            page.locator("[data-testid=stMain]").press("r")
            before = scheme
        at_rest(page)
        # On a phone the menu slides away.
        page.wait_for_function(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => "
            "done(document.getAnimations().every(one => one.playState !== 'running')))))"
        )
        assert page.evaluate(OVERFLOW) <= 0, (width, scheme)
        page.screenshot(path=ARTEFACTS / f"{name}-{width}-{scheme}.png")


def test_a_deep_link_to_a_cold_server_opens_its_page(serve, open_page):
    """The first visitor of all comes by a link to a page that is not the first."""
    page = open_page(f"{serve(APP, '--server.maxUploadSize=7')}/lsh?n=64")
    expect(page.locator("h1")).to_be_visible()
    at_rest(page)
    expect(page).to_have_title("Hashing (LSH) · LongAttn Lab")
    assert "n=64" in page.url
    assert page.locator("[data-testid=stSidebar] [data-testid=stPageLink] a").count() > len(PAGES)


def test_what_was_chosen_goes_along_to_the_next_page(room):
    page = room("lsh", "?n=128")
    page.locator("[data-testid=stSidebar] [data-testid=stPageLink] a").filter(has_text="Low rank").click()
    expect(page).to_have_url(re.compile("low_rank"))
    at_rest(page)
    expect(page).to_have_url(re.compile("n=128"))
    page.go_back()
    expect(page).to_have_url(re.compile("/lsh"))


def test_what_a_visitor_types_stays_text_in_the_picture_of_the_text(room):
    page = room("lsh", "?sample=own&text=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%20**bold**%20word%20word%20word")
    at_rest(page)
    assert page.locator(".tt-words img, .la img").count() == 0
