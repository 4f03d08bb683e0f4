"""The map and the ribbons in a real browser: pointing, holding, zooming, keys, links, and words that cannot break out."""

from pathlib import Path

import numpy as np
import pytest
from playwright import sync_api as playwright

from longattn_core.charts.style.scales import weight_scale
from longattn_core.charts.style.theme import Theme
from tests.browser import NASTY, N

expect = playwright.expect

pytestmark = pytest.mark.browser
DEMO = Path(__file__).with_name("demo_components.py")


@pytest.fixture
def map_page(serve, open_page):
    def opened(**options):
        page = open_page(f"{serve(DEMO)}/?part=map{'&dark=1' if options.get('dark') else ''}", **options)
        for name in ("exact", "window"):
            expect(the_map(page, name)).to_have_attribute("data-zoom", "1")
        return page

    return opened


@pytest.fixture
def ribbon_page(serve, open_page):
    def opened(*, hide=False, **options):
        page = open_page(f"{serve(DEMO)}/?part=ribbons{'&hide=1' if hide else ''}", **options)
        expect(page.locator(".rb")).to_have_attribute("data-token", "5")
        return page

    return opened


def the_map(page, name):
    return page.locator(".am").nth(["exact", "window"].index(name))


def stage(page, name):
    return the_map(page, name).locator(".am-stage")


def point(page, name, query, key, *, click=False):
    """Point at a pair of the whole, unzoomed map."""
    box = stage(page, name).bounding_box()
    place = {"x": (key + 0.5) / N * box["width"], "y": (query + 0.5) / N * box["height"]}
    (stage(page, name).click if click else stage(page, name).hover)(position=place)


def runs(page):
    return page.get_by_text("runs ", exact=False).inner_text()


def colour_at(page, name, query, key):
    return page.evaluate(
        """([index, query, key, n]) => {
            const root = [...document.querySelectorAll('[data-testid=stBidiComponentIsolated]')][index].shadowRoot;
            const canvas = root.querySelector('.am-map');
            const at = [(key + 0.5) / n * canvas.width, (query + 0.5) / n * canvas.height].map(Math.floor);
            return [...canvas.getContext('2d').getImageData(...at, 1, 1).data].slice(0, 3);
        }""",
        [["exact", "window"].index(name), query, key, N],
    )


# --------------------------------------------------------------------------------------------------- the map


def test_cells_have_the_colours_of_the_theme(map_page):
    page = map_page()
    theme = Theme(mode="light")
    assert colour_at(page, "window", 60, 10) == list(np.array(theme.palette("log")[255]))
    strong = theme.colour_of(weight_scale().value(251 / 252), weight_scale())
    # The cell holds a weight between 0.95 and 1: at most three of 253 steps from the end.
    assert np.abs(np.array(colour_at(page, "exact", 40, 5)) - strong.astype(int)).max() <= 12


def test_pointing_reads_a_cell_and_moves_every_linked_map_without_the_server(map_page):
    page = map_page()
    before = runs(page)
    point(page, "exact", 40, 5)
    expect(the_map(page, "exact").locator(".am-status")).to_contain_text("Largest of 4 weights: 0.9")
    expect(the_map(page, "window")).to_have_attribute("data-row", "40")
    expect(the_map(page, "window")).to_have_attribute("data-col", "4")
    expect(the_map(page, "window").locator(".am-status")).to_contain_text("Never looked at")
    point(page, "window", 10, 60)
    expect(the_map(page, "exact").locator(".am-status")).to_contain_text("future")
    page.mouse.move(5, 5)
    expect(the_map(page, "exact")).to_have_attribute("data-row", "")
    assert runs(page) == before


def test_a_click_holds_the_cell_tells_python_and_escape_lets_go(map_page):
    page = map_page()
    point(page, "exact", 40, 5, click=True)
    expect(page.get_by_text("clicked exact 40 4")).to_be_visible()
    expect(the_map(page, "exact")).to_have_attribute("data-locked", "yes")
    expect(the_map(page, "window")).to_have_attribute("data-locked", "yes")
    point(page, "exact", 20, 10)
    expect(the_map(page, "exact")).to_have_attribute("data-row", "40")
    page.keyboard.press("Escape")
    expect(the_map(page, "exact")).to_have_attribute("data-locked", "no")
    point(page, "exact", 20, 10)
    expect(the_map(page, "exact")).to_have_attribute("data-row", "20")


def test_zooming_asks_for_the_exact_rows_and_dragging_moves(map_page):
    page = map_page()
    point(page, "exact", 40, 5)
    page.mouse.wheel(0, -400)
    expect(page.get_by_text("exact shows", exact=False)).not_to_contain_text("0 64 0 64")
    expect(page.get_by_text("window shows", exact=False)).not_to_contain_text("0 64 0 64")
    expect(the_map(page, "exact").locator(".am-note")).to_be_hidden()
    expect(the_map(page, "exact").locator(".am-status")).to_contain_text("Weight 0.9")
    before = the_map(page, "exact").get_attribute("data-view")
    box = stage(page, "exact").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 120, steps=4)
    page.mouse.up()
    expect(the_map(page, "exact")).not_to_have_attribute("data-view", before)
    the_map(page, "exact").get_by_role("button", name="Show the whole map").click()
    expect(page.get_by_text("exact shows 0 64 0 64", exact=False)).to_be_visible()
    expect(the_map(page, "window")).to_have_attribute("data-zoom", "1")


def test_zoom_and_hold_survive_a_turn_of_the_dial(map_page):
    page = map_page()
    point(page, "exact", 40, 5)
    page.mouse.wheel(0, -400)
    expect(page.get_by_text("exact shows", exact=False)).not_to_contain_text("0 64 0 64")
    stage(page, "exact").click(position={"x": 100, "y": 200})
    expect(the_map(page, "exact")).to_have_attribute("data-locked", "yes")
    expect(page.get_by_text("clicked exact", exact=False)).to_be_visible()
    kept = [the_map(page, "exact").get_attribute(name) for name in ("data-view", "data-row", "data-col")]
    drawn, said = (the_map(page, "exact").get_attribute("data-drawn"), the_map(page, "exact").locator(".am-status").inner_text())
    page.get_by_role("slider").press("ArrowRight")
    expect(the_map(page, "exact")).not_to_have_attribute("data-drawn", drawn)
    expect(the_map(page, "exact").locator(".am-status")).not_to_have_text(said)
    assert [the_map(page, "exact").get_attribute(name) for name in ("data-view", "data-row", "data-col")] == kept
    expect(the_map(page, "exact")).to_have_attribute("data-locked", "yes")


def test_a_map_of_another_size_begins_whole(map_page):
    page = map_page()
    point(page, "exact", 40, 5, click=True)
    page.mouse.wheel(0, -400)
    expect(page.get_by_text("exact shows", exact=False)).not_to_contain_text("0 64 0 64")
    page.get_by_role("slider").press("End")
    expect(page.get_by_text("exact shows 0 48 0 48", exact=False)).to_be_visible()
    expect(the_map(page, "exact")).to_have_attribute("data-zoom", "1")
    expect(the_map(page, "exact")).to_have_attribute("data-view", "0 48 0 48")
    expect(the_map(page, "exact")).to_have_attribute("data-locked", "no")


def test_scrolling_out_of_a_whole_map_scrolls_the_page(map_page):
    page = map_page(height=500)
    point(page, "exact", 5, 5)
    page.mouse.wheel(0, 200)
    page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollTop > 0")
    assert the_map(page, "exact").get_attribute("data-zoom") == "1"


def test_a_map_can_be_read_with_keys_alone(map_page):
    page = map_page()
    stage(page, "exact").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(the_map(page, "exact")).to_have_attribute("data-row", "4")
    expect(the_map(page, "exact")).to_have_attribute("data-col", "2")
    expect(the_map(page, "exact").locator(".am-live")).to_contain_text("queries 4 to 5 → keys 2 to 3")
    page.keyboard.press("Enter")
    expect(page.get_by_text("clicked exact 4 2")).to_be_visible()
    page.keyboard.press("+")
    expect(the_map(page, "exact")).to_have_attribute("data-zoom", "2")
    page.keyboard.press("0")
    expect(the_map(page, "exact")).to_have_attribute("data-zoom", "1")
    ring = stage(page, "exact").evaluate("node => getComputedStyle(node).outlineStyle")
    assert ring == "solid"


def test_a_map_has_a_name_and_a_text_alternative(map_page):
    page = map_page()
    box = stage(page, "window")
    expect(box).to_have_attribute(
        "aria-label",
        "window, 64 queries by 64 keys. Arrow keys move the cross-hair, Enter holds it, "
        "plus and minus zoom, 0 shows all, Escape lets go.",
    )
    expect(the_map(page, "window").locator(".am-alt")).to_contain_text("of the cells were never looked at")
    assert box.get_attribute("aria-describedby") == the_map(page, "window").locator(".am-alt").get_attribute("id")


def test_a_token_that_looks_like_a_script_is_shown_as_text(map_page, ribbon_page):
    page = map_page()
    page.keyboard.press("Escape")
    point(page, "exact", 40, 5)
    page.mouse.wheel(0, -400)
    expect(the_map(page, "exact").locator(".am-status")).to_contain_text("<script>")
    expect(the_map(page, "exact").locator(".am-keystrip")).to_contain_text(NASTY)
    other = ribbon_page()
    expect(other.locator(".rb-words")).to_contain_text(NASTY)
    for each in (page, other):
        assert each.title() == "demo"
        assert each.locator(".la script").count() == 0


def test_a_map_fits_a_phone(map_page):
    page = map_page(width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert the_map(page, "exact").bounding_box()["width"] <= 358
    assert stage(page, "exact").bounding_box()["width"] >= 300


def test_a_finger_holds_with_a_tap_and_zooms_with_a_pinch(map_page):
    page = map_page(width=390, height=844, touch=True)
    stage(page, "exact").scroll_into_view_if_needed()
    box = stage(page, "exact").bounding_box()
    page.touchscreen.tap(box["x"] + 0.1 * box["width"], box["y"] + 0.6 * box["height"])
    expect(the_map(page, "exact")).to_have_attribute("data-locked", "yes")
    wire = page.context.new_cdp_session(page)
    middle = box["y"] + box["height"] / 2

    def fingers(kind, *apart):
        points = [{"x": box["x"] + box["width"] / 2 + sign * far, "y": middle} for far in apart for sign in (-1, 1)]
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 20)
    for far in (30, 45, 60):
        fingers("touchMove", far)
    fingers("touchEnd")
    expect(the_map(page, "exact")).to_have_attribute("data-zoom", "3")
    expect(page.get_by_text("exact shows", exact=False)).not_to_contain_text("0 64 0 64")


def test_a_map_is_drawn_at_the_density_of_the_screen(map_page):
    page = map_page()
    canvas = the_map(page, "exact").locator(".am-map")
    assert canvas.evaluate("node => node.width") == round(canvas.bounding_box()["width"])


# ----------------------------------------------------------------------------------------------- the ribbons


def strip(page, key):
    return page.locator(f".rb-row[data-key={key}] .rb-strip")


def reading(page, key):
    return page.locator(f".rb-row[data-key={key}] .rb-value b").first


def over(page, key, token, *, click=False):
    box = strip(page, key).bounding_box()
    place = {"x": (token + 0.5) / N * box["width"], "y": 8}
    (strip(page, key).click if click else strip(page, key).hover)(position=place)


def test_pointing_at_a_ribbon_marks_the_token_everywhere(ribbon_page):
    page = ribbon_page()
    before = runs(page)
    over(page, "exact", 20)
    expect(page.locator(".rb")).to_have_attribute("data-token", "20")
    expect(page.locator(".rb-words span.la-here")).to_have_text(" word20")
    expect(reading(page, "window")).to_have_text("never")
    expect(reading(page, "newcomer")).to_have_text("0.0156")
    expect(page.locator(".rb-active")).to_have_text("“\u2068word20\u2069” (20)")
    marks = page.locator(".rb-mark").evaluate_all("nodes => nodes.map(node => Math.round(node.getBoundingClientRect().left))")
    assert len(set(marks)) == 1
    assert len(marks) == 4
    assert runs(page) == before


def test_pointing_at_a_word_marks_the_ribbons_and_leaving_goes_back(ribbon_page):
    page = ribbon_page()
    page.locator(".rb-words span").nth(60).hover()
    expect(page.locator(".rb")).to_have_attribute("data-token", "60")
    expect(reading(page, "window")).not_to_have_text("never")
    page.mouse.move(5, 5)
    expect(page.locator(".rb")).to_have_attribute("data-token", "5")


def test_a_click_on_a_word_makes_it_the_query(ribbon_page):
    page = ribbon_page()
    page.locator(".rb-words span").nth(30).click()
    expect(page.get_by_text("query 30", exact=True)).to_be_visible()
    expect(page.locator(".rb-words span.rb-asks")).to_have_text(" word30")
    expect(page.locator(".rb-query")).to_contain_text("(30) looks back")
    expect(page.locator(".rb-words span").nth(31)).to_have_class("la-future")
    page.locator(".rb-words span").nth(50).hover()
    expect(reading(page, "exact")).to_have_text("future")


def test_the_text_is_tinted_by_the_ribbon_that_was_chosen(ribbon_page):
    page = ribbon_page()
    word = page.locator(".rb-words span").nth(20)
    theme = Theme()
    never = "rgb({}, {}, {})".format(*theme.palette("log")[255])
    assert word.evaluate("node => getComputedStyle(node).backgroundColor") != never
    page.get_by_role("button", name="Window").click()
    expect(page.locator(".rb-caption")).to_contain_text("Window")
    expect(word).to_have_css("background-color", never)


def test_a_click_on_a_ribbon_asks_why(ribbon_page):
    page = ribbon_page()
    over(page, "window", 20, click=True)
    expect(page.get_by_text("clicked window 20")).to_be_visible()
    page.mouse.move(5, 5)
    expect(page.locator(".rb")).to_have_attribute("data-token", "20")
    expect(page.locator(".rb")).to_have_attribute("data-chosen", "window")


def test_ribbons_can_be_read_with_keys_alone(ribbon_page):
    page = ribbon_page()
    page.locator(".rb-grid").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".rb")).to_have_attribute("data-token", "6")
    expect(page.locator(".rb")).to_have_attribute("data-chosen", "window")
    expect(page.locator(".rb-live")).to_have_text("Window never looked at “\u2068↵\u2069” (6).")
    page.keyboard.press("Enter")
    expect(page.get_by_text("clicked window 6")).to_be_visible()
    page.locator(".rb-words").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_text("query 62", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".rb")).to_have_attribute("data-token", "5")


def test_a_guess_reaches_python_and_a_hidden_row_shows_nothing(ribbon_page):
    page = ribbon_page(hide=True)
    row = page.locator(".rb-row[data-key=window]")
    assert row.locator("canvas").count() == 0
    assert row.locator(".rb-badge").count() == 0
    expect(reading(page, "window")).to_have_text("?")
    page.get_by_role("button", name="Window: loses it").click()
    expect(page.get_by_text("guesses {'window': False}")).to_be_visible()
    expect(page.get_by_role("button", name="Window: loses it")).to_have_attribute("aria-pressed", "true")


def test_a_refusal_stands_in_the_place_of_the_ribbon(ribbon_page):
    page = ribbon_page()
    expect(strip(page, "low_rank")).to_have_text("It cannot hide the future.")


def test_on_a_phone_labels_stand_above_their_ribbons_and_nothing_runs_off_the_side(ribbon_page):
    page = ribbon_page(width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for key in ("exact", "window", "newcomer"):
        name = page.locator(f".rb-row[data-key={key}] .rb-name").bounding_box()
        ribbon = strip(page, key).bounding_box()
        assert name["y"] + name["height"] <= ribbon["y"] + 1
        assert ribbon["width"] == pytest.approx(358, abs=2)
        assert ribbon["x"] + ribbon["width"] <= 390


def test_ribbons_survive_a_resize(ribbon_page):
    page = ribbon_page()
    wide = strip(page, "exact").locator("canvas").bounding_box()["width"]
    drawn = page.locator(".rb").get_attribute("data-drawn")
    page.set_viewport_size({"width": 800, "height": 900})
    expect(page.locator(".rb")).not_to_have_attribute("data-drawn", drawn)
    page.wait_for_function(
        """() => { const root = document.querySelector('[data-testid=stBidiComponentIsolated]').shadowRoot;
            const box = root.querySelector('[data-key=exact] .rb-strip'), canvas = box.querySelector('canvas');
            return Math.abs(box.clientWidth - canvas.getBoundingClientRect().width) < 1; }"""
    )
    assert strip(page, "exact").locator("canvas").bounding_box()["width"] != wide
