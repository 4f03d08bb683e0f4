"""Parts of a page that run alone: never one inside another, and the body of a page where no sweep runs."""

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext
from streamlit.testing.v1 import AppTest

from tests.pages.test_every_page import SMALL, opened, shown

pytestmark = pytest.mark.usefixtures("_components_sought_once", "_shapes_unchecked")


@pytest.fixture
def drawn(monkeypatch):
    """What is sent to the browser, in order: the element and the fragment that it is part of (none: an empty name)."""
    found = []
    sent = ScriptRunContext.enqueue

    def noted(context, message):
        if message.WhichOneof("type") == "delta":
            found.append((message.delta.new_element, message.delta.fragment_id))
        sent(context, message)

    monkeypatch.setattr(ScriptRunContext, "enqueue", noted)
    return found


def within(drawn, kind):
    return [part for element, part in drawn if element.WhichOneof("type") == kind]


def test_streamlit_sends_what_is_left_of_an_inner_fragment_after_the_outer_was_taken_back():
    """Why there is `pages.kit.fragments`: on the day on which this fails, it may go."""
    queue = ForwardMsgQueue()
    for place, part in (((0, 0), "outer"), ((0, 0, 0), "inner")):
        message = ForwardMsg()
        message.delta.new_element.text.body = part
        message.delta.fragment_id = part
        message.metadata.delta_path.extend(place)
        queue.enqueue(message)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=["outer"])
    assert [message.delta.fragment_id for message in queue.flush()] == ["inner"]


def nested():
    import streamlit as st

    from pages.kit.fragments import fragment

    def inner():
        st.text("inside")

    def outer():
        st.text("before")
        fragment(inner, run_every=1)
        st.text("behind")

    fragment(outer)
    fragment(inner)
    st.text("alone")


def test_a_fragment_inside_another_is_a_part_of_it_and_one_beside_it_is_not(drawn):
    assert not AppTest.from_function(nested).run().exception
    before, inside, behind, beside, alone = within(drawn, "text")
    assert before == inside == behind != ""
    assert beside not in {"", before}
    assert alone == ""


@pytest.mark.model
def test_a_dial_of_the_page_stands_in_a_fragment_and_one_of_the_bar_outside(drawn):
    shown(opened("window", **SMALL))
    bar, *own = within(drawn, "slider")
    assert bar == ""
    assert len({*within(drawn, "vega_lite_chart"), *own[-1:]}) == 1 and own[-1]


def swept():
    import streamlit as st

    from pages.kit.fragments import fragment
    from pages.kit.page import show_page

    def body(here):
        st.text("hero")
        if st.session_state.running:
            here.polls()
        fragment(lambda: st.text("sweep"))

    show_page("lsh", body)


def test_where_a_sweep_runs_it_is_the_fragment_and_the_page_around_it_is_none(drawn):
    app = AppTest.from_function(swept)
    app.session_state["running"] = False
    assert not app.run().exception
    hero, sweep = within(drawn, "text")
    assert hero == sweep != ""
    drawn.clear()
    app.session_state["running"] = True
    assert not app.run().exception
    _begun, hero, sweep = within(drawn, "text")
    assert hero == "" != sweep
    drawn.clear()
    # As long as this view is looked at, for the next sweep; another view is a fragment again.
    app.session_state["running"] = False
    app.run()
    assert within(drawn, "text")[0] == ""
    drawn.clear()
    app.session_state["_laboratory"]["lsh.view"] = "theory"
    app.run()
    assert within(drawn, "text")[0] != ""
