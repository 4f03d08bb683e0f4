"""The app without a browser: every source, every mechanism, wrong input, the state in the URL."""

import re
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from longattn_core import MECHANISMS, jobs
from longattn_core.sequences.synthetic import KINDS
from longattn_core.studies.base import sweep
from pages.kit import dials as controls
from pages.kit import state
from pages.kit.menu import entries
from pages.kit.text import escaped, prose, sections
from pages.side_by_side.reveal import judge
from pages.side_by_side.ribbons import row_key
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("_components_sought_once", "_shapes_unchecked")
SMALL = {"source": "synthetic", "kind": "gaussian", "syn.gaussian.n": "64", "keys": "16"}


@pytest.fixture(autouse=True)
def _nothing_runs_behind(monkeypatch):
    """What a page measures in the background ends at once, and slows no other test."""
    monkeypatch.setattr(jobs, "PATIENCE", -1.0)


def opened(**query):
    """The home page with a state in its URL, run once; dots in names are written as two underscores."""
    app = AppTest.from_file(str(ROOT / "pages" / "kit" / "main.py"), default_timeout=180)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def healthy(app):
    assert not app.exception, app.exception
    return app


def words_of(app):
    return " ".join(element.value for kind in ("title", "markdown", "caption", "error", "info") for element in app.get(kind))


def small(**query):
    return healthy(opened(**SMALL, **query))


def test_the_default_page_says_what_the_run_found():
    app = healthy(opened(n="128"))
    assert app.title[0].value.startswith("One token looks back over 128")
    assert not app.error


def test_the_frontier_waits_for_the_page_and_is_drawn_point_by_point_and_speaks_when_it_is_whole(monkeypatch):
    app = healthy(opened(**SMALL | {"syn.gaussian.n": "40"}))
    assert "side_by_side.frontier" not in [job.study.key for job in list(jobs._jobs.values())[-1:]]
    monkeypatch.setattr(jobs, "begun", lambda study: True)
    healthy(app.run())
    assert not app.get("vega_lite_chart")
    (study,) = (job.study for job in list(jobs._jobs.values())[-1:])
    assert study.key == "side_by_side.frontier"
    for point in study.points()[:9]:
        sweep._rows.get(study._label(point), partial(study.measure, point))
    said = words_of(healthy(app.run()))
    assert prose("side_by_side", "frontier_measuring") in said
    assert app.get("vega_lite_chart")
    study.run()
    said = words_of(healthy(app.run()))
    assert prose("side_by_side", "frontier_measuring") not in said
    assert any(part in said for part in ("exact attention's operations, where", "On this sequence no setting"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_synthetic_sequence_is_shown(kind):
    app = healthy(opened(source="synthetic", kind=kind, **{f"syn.{kind}.n": "32"}))
    assert not app.error, app.error[0].value
    assert app.title


@pytest.mark.parametrize("key", [key for key in MECHANISMS if key != "exact"])
def test_every_variant_has_its_map_or_its_sentence(key):
    choices = [setting.model_dump(mode="json") for setting in MECHANISMS[key].variants()]
    for dials in choices[:2]:
        changed = {f"m.{key}.{name}": text(value) for name, value in dials.items()}
        app = small(map=key, **changed)
        assert not app.error, app.error[0].value


def text(value):
    return {True: "1", False: "0"}.get(value, str(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "text"),
        ("   \n\n ", "text"),
        ("clock", None),
        ("a\x00b and more", None),
        ("مرحبا بالعالم", None),
        ("👩‍👩‍👧‍👦 says hello", None),
        ("<script>alert(1)</script> **bold** [x](y) $a$", None),
    ],
    ids=["empty", "blank", "one word", "NUL", "right to left", "emoji", "markup"],
)
def test_any_typed_text_gives_a_picture_or_a_sentence_and_stays(typed, said):
    app = opened(sample="own", n="64")
    app.text_area[0].set_value(typed).run()
    healthy(app)
    assert app.text_area[0].value == typed
    if said is None:
        assert not app.error, app.error[0].value
        assert app.title
    else:
        assert said in app.error[0].value
        assert "Traceback" not in app.error[0].value


def test_of_a_text_that_is_too_long_the_beginning_is_read_and_said():
    app = opened(sample="own", n="64")
    app.text_area[0].set_value("word " * 9000).run()
    healthy(app)
    assert app.title[0].value.startswith("One token looks back over 64")
    assert "the first 64 of 9,00" in words_of(app)
    assert "textid" in app.query_params


def test_what_a_visitor_types_cannot_become_markup():
    app = opened(sample="own", n="64")
    app.text_area[0].set_value("<b>x</b> *y* [z](javascript:1) `q` <b>x</b> *y*").run()
    healthy(app)
    for element in app.markdown:
        assert not re.search(r"(?<!\\)<b>", element.value)
        assert not element.allow_html


@pytest.mark.parametrize(
    "query",
    [
        {"keys": "nonsense"},
        {"keys": "-5"},
        {"keys": "99999999999999999999"},
        {"query": "9999"},
        {"query": "-1"},
        {"mark": "x"},
        {"n": "0"},
        {"head": "99.99"},
        {"head": "x"},
        {"beta": "nan"},
        {"beta": "inf"},
        {"mask": "sideways"},
        {"source": "magic"},
        {"kind": "nope"},
        {"map": "nope"},
        {"scale": "cubic"},
        {"revealed": "maybe"},
        {"guess": "~~=~="},
        {"sample": "../../etc/passwd"},
        {"map": "favor", "m.favor.features": "0"},
        {"file": "zz", "source": "uploaded"},
        {"textid": "0" * 64, "sample": "own"},
    ],
    ids=str,
)
def test_a_forged_link_falls_back_and_never_breaks(query):
    base = {} if {"source", "sample", "n", "head", "beta"} & set(query) else dict(SMALL)
    healthy(opened(**{"n": "64", **base, **query}))


def test_the_state_is_mirrored_into_the_url_without_defaults():
    app = small(revealed="1")
    assert app.query_params["kind"] == "gaussian"
    assert "mask" not in app.query_params
    again = small(revealed="1", mask="none")
    assert again.query_params["mask"] == "none"


def test_reveal_and_guess():
    app = small()
    names = [button.key for button in app.button]
    assert "reveal" in names
    app.button(key="reveal").click().run()
    healthy(app)
    assert app.query_params["revealed"] == "1"
    assert "at least half of its exact weight" in words_of(app)


def test_a_refusal_offers_to_take_the_mask_off_for_all():
    app = small(map="low_rank", **{"m.low_rank.variant": "linformer"})
    assert any("future" in info.value for info in app.info)
    app.button(key="unmask").click().run()
    healthy(app)
    assert app.query_params["mask"] == "none"
    assert "unmasked reading" in words_of(app)


def test_presenting_shows_the_hero_alone():
    app = small(present="1")
    assert not app.subheader
    assert app.title


def test_without_the_weights_synthetic_works_and_text_says_how(monkeypatch, tmp_path):
    from longattn_core.language_model import model, tokenizer, weights

    monkeypatch.setattr(weights, "find_gguf", lambda: None)
    monkeypatch.setenv("LONGATTN_CACHE", str(tmp_path))
    kept = (model._loaded, tokenizer._loaded)
    for loaded in kept:
        loaded.cache_clear()
    app = healthy(opened(n="1024", sample="dialogue.txt"))
    assert "make app" in app.error[0].value
    small()


def test_an_upload_without_a_file_says_what_to_give():
    app = healthy(opened(source="uploaded"))
    assert "safetensors" in words_of(app)


def test_every_dial_of_every_mechanism_has_a_widget_that_allows_its_bounds():
    for key, kind in MECHANISMS.items():
        for name, field in kind.model_fields.items():
            low, high = controls.bounds(field, least=0, most=2**31 - 1)
            extra = controls._extra(field)
            if field.annotation is int:
                steps = controls._whole_steps(int(low), int(high), extra) if extra.get("scale") else [low, high]
                assert low in steps and high in steps, (key, name)
                assert len(steps) < 400 or extra.get("scale", "linear") == "linear", (key, name)
            elif field.annotation is float:
                steps = controls._steps(low, high, extra)
                assert steps[0] == low and steps[-1] == high and len(steps) < 200, (key, name, len(steps))


def test_escaped_text_shows_as_typed():
    for typed in ("*a*", "<b>", "[x](y)", "a_b", "# h", "`c`", "$x$", ":red[x]"):
        shown = escaped(typed)
        assert re.sub(r"\\(.)", r"\1", shown) == typed
        assert not re.search(r"(?<!\\)[*<>\[\]_#`$:]", shown)


def test_a_page_that_runs_without_the_app_frames_itself():
    """On a cold server a deep link runs the page's file alone."""
    app = AppTest.from_file(str(ROOT / "pages" / "side_by_side" / "page.py"), default_timeout=180)
    for name, value in SMALL.items():
        app.query_params[name] = value
    healthy(app.run())
    assert app.title


def test_every_page_has_its_entry_in_the_menu():
    pages = {path.parent.name for path in (ROOT / "pages").glob("*/page.py")} - {"kit"}
    assert pages == set(entries())
    assert next(iter(entries())) == "side_by_side"
    assert all(entry.title for entry in entries().values())


def test_prose_has_every_section_and_place():
    assert {"question", "answer_strong", "answer_spread", "answer_alone", "revealed"} <= set(sections("side_by_side"))
    with pytest.raises(KeyError):
        prose("side_by_side", "answer_strong", share=1)


def test_guesses_are_judged_by_the_rule():
    from longattn_core.studies.side_by_side.finding import comparison_finding
    from tests.studies.test_every_study import made_up

    result = made_up(0.8, [0.8, 0.4, 0.1])
    assert [row_key(result, index) for index in range(3)] == ["m0", "m1", "m2"]
    assert judge({"m0": True, "m1": False, "m2": False, "other": True}, result, comparison_finding(result)) == (2, 3)


def test_state_names_from_a_url_are_plain_and_short():
    app = opened(**{**SMALL, "x" * 60: "1", "Bad Name": "1"})
    healthy(app)
    assert set(app.query_params) <= {*SMALL, "guess", "revealed"}
    assert state._LONGEST > 600
