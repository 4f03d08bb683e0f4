"""The text as a picture and the stepper in a real browser: pointing, links, keys, and words that cannot break out."""

import re
from pathlib import Path

import pytest
from playwright import sync_api as playwright

from tests.browser import NASTY, N

expect = playwright.expect
pytestmark = pytest.mark.browser
DEMO = Path(__file__).with_name("demo_text.py")


@pytest.fixture
def demo(serve, open_page):
    def opened(query="", **options):
        page = open_page(f"{serve(DEMO)}/{query}", **options)
        expect(page.locator(".tt").first).to_have_attribute("data-drawn", re.compile("[1-9]"))
        expect(page.locator(".am")).to_have_attribute("data-zoom", "1")
        return page

    return opened


def word(page, i, text=0):
    return page.locator(".tt").nth(text).locator(f".tt-words span[data-i='{i}']")


def status(page):
    return page.locator(".tt-status").first


def test_pointing_at_a_word_names_it_its_group_and_its_note(demo):
    page = demo()
    word(page, 20).hover()
    expect(status(page)).to_contain_text("word20")
    expect(status(page)).to_contain_text("group 1")
    expect(status(page)).to_contain_text("note 20")


def test_groups_have_different_colours_and_a_press_dims_the_others(demo):
    page = demo()
    colours = {word(page, i).evaluate("e => getComputedStyle(e).backgroundColor") for i in (1, 17, 33)}
    assert len(colours) == 3
    page.get_by_role("button", name="group 1", exact=True).click()
    expect(word(page, 1)).to_have_class(re.compile("tt-dim"))
    expect(word(page, 17)).not_to_have_class(re.compile("tt-dim"))
    page.get_by_role("button", name="group 1", exact=True).click()
    expect(word(page, 1)).not_to_have_class(re.compile("tt-dim"))


def test_a_cut_is_as_thick_as_its_share_and_says_what_it_severs(demo):
    page = demo()
    cuts = page.locator(".tt-cut")
    thick, thin = (cuts.nth(i).bounding_box()["width"] for i in (0, 1))
    assert thick > 4 * thin
    cuts.first.hover()
    expect(status(page)).to_have_text("the first cut severs all")


def test_a_click_chooses_the_word(demo):
    page = demo()
    word(page, 9).click()
    expect(page.get_by_text("chosen 9")).to_be_visible()


def test_the_text_and_the_map_point_together(demo):
    page = demo()
    word(page, 9).hover()
    expect(page.locator(".am-status")).to_contain_text("word9")
    stage = page.locator(".am-stage")
    box = stage.bounding_box()
    stage.hover(position={"x": (12.5 / N) * box["width"], "y": (40.5 / N) * box["height"]})
    expect(word(page, 12)).to_have_class(re.compile("la-here"))
    expect(word(page, 40)).to_have_class(re.compile("la-here"))
    expect(word(page, 12, text=1)).not_to_have_class(re.compile("la-here"))


def test_arrow_keys_walk_along_the_words(demo):
    page = demo()
    words = page.locator(".tt-words").first
    word(page, 9).hover()
    words.press("ArrowRight")
    expect(status(page)).to_contain_text("word10")
    words.press("Enter")
    expect(page.get_by_text("chosen 10")).to_be_visible()


def test_never_looked_at_and_the_future_have_looks_of_their_own(demo):
    page = demo()
    expect(word(page, 1, text=1)).to_have_class(re.compile("tt-never"))
    expect(word(page, N - 1, text=1)).to_have_class(re.compile("la-future"))
    strong = word(page, N - 10, text=1).evaluate("e => getComputedStyle(e).backgroundColor")
    assert strong != word(page, 2, text=1).evaluate("e => getComputedStyle(e).backgroundColor")


def test_a_word_that_looks_like_a_script_is_shown_as_text(demo):
    page = demo()
    assert word(page, 5).inner_text().strip() == NASTY.strip()
    assert page.locator(".tt img, .tt script, .sp img, .sp script").count() == 0
    assert page.evaluate("window.broken === undefined")


def test_the_stepper_goes_by_buttons_keys_and_stops_and_is_kept_in_the_link(demo):
    page = demo()
    now = page.locator(".sp-now")
    expect(page.locator(".sp-back")).to_be_disabled()
    page.locator(".sp-forth").click()
    expect(page.get_by_text("at 1", exact=True)).to_be_visible()
    page.locator(".sp-forth").press("ArrowRight")
    expect(page.get_by_text("at 2", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("demo.step=2"))
    page.locator(".sp-range").press("End")
    expect(now).to_contain_text("attend")
    expect(page.locator(".sp-forth")).to_be_disabled()
    page.locator(".sp-stops button").first.click()
    expect(page.get_by_text("at 0", exact=True)).to_be_visible()
    again = demo("?demo.step=2")
    expect(again.locator(".sp-now")).to_contain_text("Step 3 of 4")


def test_buttons_of_the_stepper_are_large_enough_for_a_finger_on_a_phone(demo):
    page = demo(width=390, touch=True)
    for name in (".sp-back", ".sp-forth"):
        box = page.locator(name).bounding_box()
        assert box["width"] >= 44 and box["height"] >= 44
    overflow = page.evaluate(
        "(() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth; })()"
    )
    assert overflow <= 0
