"""The bones of a page without a page: guesses, things to try, steps, the text as a picture; forged values do nothing."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from longattn_core.charts.style.theme import Theme
from pages.kit import sections as parts
from pages.kit import state
from pages.kit.components import stepper, token_text
from pages.kit.components.token_text import TextPicture

pytestmark = pytest.mark.usefixtures("_components_sought_once")

SCRIPT = """
import streamlit as st
from pages.kit import sections as parts, state
from pages.kit.text import sections
from longattn_core.charts.style.theme import Theme

class Here:
    name, presenting, causal, theme = "made_up", {presenting}, True, Theme()
    top = st.container()

parts.examples = lambda page: [dict(name="sharp", label="Sharper", sets={{"made_up.beta": "2"}}, expects="far")]
words = dict(question="How far?", answer_far="Far: {{n}}.", answer_near="Near: {{n}}.", predict_far="How far is it?",
    revealed_far="It is {{n}}.", watch_sharp="Watch {{n}}.", watch_sharp_far="Watch it go far: {{n}}.")
parts.prose = lambda page, name, **numbers: words[name].format(**numbers)
parts.sections = lambda page: words
state.enter("made_up")
beta = state.slide("made_up.beta", "beta", [1, 2, 3], default=1, parse=int)
kind = "far" if beta > 1 else "near"
parts.question(Here)
parts.answer(Here, kind, n=beta)
if parts.predict(Here, "far", ["one", "two"], right=beta - 1, n=beta):
    st.caption("revealed")
parts.try_this(Here, kind, n=beta)

def measure():
    st.caption("view measure")
    state.switch("made_up.curve", "curve", default=False, view=True)
    state.switch("made_up.step_twice", "twice", default=False)

parts.views(Here, step=lambda: st.caption("view step"), measure=measure, theory=lambda: None)
"""


@pytest.fixture(autouse=True)
def _own_words_only_here(monkeypatch):
    """The script puts words of its own in the place of the pages': what runs after it in this process gets them back."""
    for name in ("examples", "prose", "sections"):
        monkeypatch.setattr(parts, name, getattr(parts, name))


def opened(presenting=False, **query):
    app = AppTest.from_string(SCRIPT.format(presenting=presenting), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def words(app):
    return [element.value for kind in ("title", "markdown", "caption", "info") for element in app.get(kind)]


def test_nothing_is_revealed_before_a_guess_and_the_verdict_follows_the_run():
    app = opened()
    assert "revealed" not in words(app)
    assert not any("It is" in text for text in words(app))
    app.button(key="guess far 1").click().run()
    assert "revealed" in words(app)
    assert any(text.startswith("**Not this time.** It is 1.") for text in words(app))
    app.button(key="again far").click().run()
    assert "revealed" not in words(app)
    app.button(key="guess far 0").click().run()
    assert any(text.startswith("**Right.** It is 1.") for text in words(app))


def test_just_show_me_gives_no_verdict():
    app = opened()
    app.button(key="show far").click().run()
    assert any(text.startswith("It is 1.") for text in words(app))


def test_a_example_sets_the_dials_and_its_sentence_goes_with_the_kind_until_something_is_changed():
    app = opened()
    assert "Near: 1." in words(app)
    app.button(key="try sharp").click().run()
    assert "Far: 2." in words(app)
    assert "Watch it go far: 2." in words(app)
    app.button(key="guess far 1").click().run()
    assert "Watch it go far: 2." in words(app)
    app.select_slider[0].set_value(3).run()
    assert "Far: 3." in words(app)
    assert not any(text.startswith("Watch") for text in words(app))


def test_presenting_asks_nothing():
    app = opened(presenting=True)
    assert "revealed" in words(app)
    assert not [button for button in app.button if button.key.startswith(("try", "guess"))]


@pytest.mark.parametrize("sent", [None, {}, {"at": -1}, {"at": True}, {"at": "2"}, {"at": 1.5}, "x", {"at": None}])
def test_a_forged_step_is_ignored(sent):
    assert stepper._sent(sent) is None


def test_a_step_is_taken():
    assert stepper._sent({"at": 3}) == 3


@pytest.mark.parametrize(
    "sent",
    [
        None,
        {},
        {"token": 3},
        {"token": 9, "of": "t"},
        {"token": -1, "of": "t"},
        {"token": 3, "of": "other"},
        {"token": 3.0, "of": "t"},
    ],
)
def test_a_forged_token_is_ignored(sent):
    assert token_text.checked_token(sent, content="t", n=9) is None


def test_a_token_is_taken():
    assert token_text.checked_token({"token": 3, "of": "t"}, content="t", n=9) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"groups": [1, 2]}, "groups"),
        ({"weights": [0.5]}, "weights"),
        ({"notes": ["a"]}, "notes"),
        ({"cuts": {9: (1.0, "x")}}, "cuts"),
        ({"selected": 3}, "selected"),
    ],
)
def test_what_does_not_fit_the_text_is_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        token_text.token_text(TextPicture(tokens=["a", "b", "c"], **wrong), key="k", theme=Theme())


def test_an_empty_text_is_named():
    with pytest.raises(ValueError, match="no token"):
        token_text.token_text(TextPicture(tokens=[]), key="k", theme=Theme())


def test_a_text_too_long_to_draw_says_so_and_ends_no_page(monkeypatch):
    said = []
    monkeypatch.setattr(token_text, "_mount", lambda **given: pytest.fail("it was drawn"))
    monkeypatch.setattr(token_text.st, "caption", said.append)
    picture = TextPicture(tokens=["a"] * 8193, groups=[0] * 8193)
    assert token_text.token_text(picture, key="k", theme=Theme()) is None
    assert said == ["A text of more than 8,192 tokens is not drawn word by word."]


def test_what_is_drawn_holds_every_token_group_and_cut(monkeypatch):
    sent = {}
    monkeypatch.setattr(token_text, "_mount", lambda **given: sent.update(given) or {})
    monkeypatch.setattr(token_text, "pack", lambda head, planes: (head, planes))
    token_text.token_text(
        TextPicture(
            tokens=["<b>", " two", " three"],
            groups=[0, 5, -1],
            group_names={0: "first", 5: "sixth"},
            cuts={2: (2.0, "half is lost")},
            weights=[0.1, np.nan, 0.5],
        ),
        key="k",
        theme=Theme(),
    )
    head, planes = sent["data"]
    assert head["tokens"] == ["<b>", " two", " three"]
    assert np.frombuffer(planes["groups"], "<i4").tolist() == [0, 5, -1]
    assert [entry[1] for entry in head["legend"]] == ["first", "sixth"]
    assert head["cuts"] == [[2, 1.0, "half is lost"]]
    assert "-1" not in head["inks"]
    assert head["kinds"] == ["never"]


def test_a_value_that_was_chosen_stays_where_a_page_has_it_as_its_default():
    app = AppTest.from_string(
        """
import streamlit as st
from pages.kit import sections as parts
from pages.kit import state
page = st.session_state.get("page", "first")
state.enter(page)
state.choose("head", "Head", ["a", "b", "c"], default="a" if page == "first" else "b")
state.mirror()
"""
    ).run()
    assert app.selectbox[0].value == "a"
    app.session_state["page"] = "second"
    app.run()
    assert app.selectbox[0].value == "b"
    app.selectbox[0].set_value("a").run()
    app.session_state["page"] = "first"
    app.run()
    assert app.selectbox[0].value == "a"
    app.session_state["page"] = "second"
    app.run()
    assert app.selectbox[0].value == "a"


def test_an_example_stays_while_declared_views_change_and_ends_with_any_other_value_whatever_its_name():
    # The link brings a view's value along that the page declares only when its switch is drawn.
    app = opened(**{"made_up.curve": "1"})
    app.button(key="try sharp").click().run()
    app.button_group(key="in:made_up.view").set_value("measure").run()
    app.button(key="show far").click().run()
    app.toggle(key="in:made_up.curve").set_value(False).run()
    assert not app.run().exception
    assert app.session_state["_laboratory"]["made_up.curve"] == "0"
    assert "Watch it go far: 2." in words(app)
    app.toggle(key="in:made_up.step_twice").set_value(True).run()
    assert not app.run().exception
    assert not any(text.startswith("Watch") for text in words(app))


def test_nothing_is_a_view_by_its_name():
    app = AppTest.from_string(
        """
import streamlit as st
from pages.kit import state
state.enter("lsh")
names = ["lsh.view", "lsh.guess.x", "lsh.step", "m.lsh.rounds", "over"]
for name in names:
    state.remember(name, 1)
st.text(sorted(state.without_views(state.snapshot())))
for name in ("lsh.view", "lsh.guess.x", "over"):
    state.remember(name, 2, view=True)
st.text(sorted(state.without_views(state.snapshot())))
"""
    ).run()
    assert not app.exception
    before, after = (text.value for text in app.text)
    assert before == "['lsh.guess.x', 'lsh.step', 'lsh.view', 'm.lsh.rounds', 'over']"
    assert after == "['lsh.step', 'm.lsh.rounds']"
    assert state._LONGEST > 600


def test_only_the_chosen_view_is_computed_and_none_to_begin_with():
    app = opened()
    assert not any(text.startswith("view") for text in words(app))
    app.get("button_group")[0].set_value("measure").run()
    assert "view measure" in words(app)
    assert "view step" not in words(app)
