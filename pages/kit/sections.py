"""The bones of a page: question, answer, a guess, things to try, what the papers say beside what is measured.

Words stand in `assets/prose/<language>/<page>.md`, buttons in `assets/lessons/<page>.json`. A sentence's numbers come
from the run, and so do its verbs: a section is chosen by a kind that a tested rule of the page's study names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from pages.kit import state
from pages.kit.context import Page
from pages.kit.text import ASSETS, _, data, prose, sections

VIEWS = {"step": _("Step"), "measure": _("Measure"), "theory": _("Theory")}
_FOUND, _TRIED, _DONE = "_found", "_tried", "_tried_state"


def question(here: Page, **numbers: Any) -> None:
    """The page's question as its title: section `question`."""
    with here.top:
        st.title(prose(here.name, "question", **numbers), anchor=False)


def answer(here: Page, kind: str, **numbers: Any) -> None:
    """The answer in one sentence, with numbers of this run: section `answer_<kind>`."""
    st.session_state[_FOUND] = (here.name, kind)
    with here.top:
        st.markdown(prose(here.name, f"answer_{kind}", **numbers))
        if not here.causal and "unmasked" in sections(here.name):
            st.caption(prose(here.name, "unmasked"))


def formula(here: Page, name: str, **numbers: Any) -> None:
    """A formula with today's numbers in it: section `formula_<name>`, in LaTeX. Braces of LaTeX stand doubled there."""
    st.latex(prose(here.name, f"formula_{name}", **numbers))


def said(here: Page, **numbers: Any) -> None:
    """What the papers say, and what is measured here: section `said`."""
    st.caption(prose(here.name, "said", **numbers))


def views(here: Page, *, step: Callable[[], None], measure: Callable[[], None], theory: Callable[[], None]) -> None:
    """The switch under the picture, and the view that is chosen; nothing of the others is computed. None to begin with."""
    st.divider()
    chosen = state.choose_or_none(f"{here.name}.view", _("Look closer"), list(VIEWS), labels=VIEWS.__getitem__)
    if chosen is None:
        st.caption(
            _("*Step*: how it works, frame by frame. *Measure*: maps and curves of this sequence. *Theory*: the formulas.")
        )
    else:
        {"step": step, "measure": measure, "theory": theory}[chosen]()


def predict(here: Page, name: str, options: Sequence[str], right: int, **numbers: Any) -> bool:
    """A question before its answer: sections `predict_<name>` and, once guessed, `revealed_<name>`.

    `right` is the index of the option that this run makes true. True once the visitor has guessed, or asked to see.
    Presenting asks nothing, because the room does.
    """
    if here.presenting:
        return True
    label = f"{here.name}.guess.{name}"
    guess = state.recall(label, None, lambda text: int(text) if int(text) <= len(options) else None)
    with st.container(border=True, key=f"predict-{name}"):
        if guess is None:
            st.markdown(f"**{_('Guess first.')}** {prose(here.name, f'predict_{name}', **numbers)}")
            with st.container(horizontal=True):
                for index, option in enumerate(options):
                    st.button(option, key=f"guess {name} {index}", on_click=state.remember, args=(label, index))
                st.button(
                    _("Just show me"), key=f"show {name}", type="tertiary", on_click=state.remember, args=(label, len(options))
                )
            return False
        verdict = "" if guess == len(options) else f"**{_('Right.') if guess == right else _('Not this time.')}** "
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(verdict + prose(here.name, f"revealed_{name}", **numbers))
            st.button(_("Ask again"), key=f"again {name}", type="tertiary", on_click=state.remember, args=(label, None))
    return True


def lessons(page: str) -> list[dict[str, Any]]:
    """The things to try on a page: name, label, the state that the button sets, and the kind of answer that it claims."""
    path = Path("lessons") / f"{page}.json"
    return list(data(str(path))) if (ASSETS / path).exists() else []


def try_this(here: Page, kind: str, **numbers: Any) -> None:
    """Buttons that set dials, and what to watch: section `watch_<lesson>_<kind>`, or `watch_<lesson>`.

    The sentence stands as long as nothing else is changed. Not shown when presenting.
    """
    if here.presenting:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="try-this"):
        st.markdown(f"**{_('Try this')}**", width="content")
        for lesson in lessons(here.name):
            st.button(_(lesson["label"]), key=f"try {lesson['name']}", on_click=_begin, args=(here.name, lesson["name"]))
    active = _active(here.name)
    if active is not None:
        found = sections(here.name)
        section = f"watch_{active}_{kind}" if f"watch_{active}_{kind}" in found else f"watch_{active}"
        st.info(prose(here.name, section, **numbers))


def _begin(page: str, name: str) -> None:
    lesson = next(lesson for lesson in lessons(page) if lesson["name"] == name)
    state.put({key: str(value) for key, value in lesson["sets"].items()})
    st.session_state[_TRIED] = (page, name)
    st.session_state[_DONE] = None


def _active(page: str) -> str | None:
    """The lesson whose button was pressed last, while the state is still what it made of it."""
    tried = st.session_state.get(_TRIED)
    if tried is None or tried[0] != page:
        return None
    now = {name: value for name, value in state.snapshot().items() if not _a_view(name, page)}
    if st.session_state.get(_DONE) is None:
        st.session_state[_DONE] = now
    if st.session_state[_DONE] != now:
        st.session_state[_TRIED] = None
        return None
    return str(tried[1])


def _a_view(name: str, page: str) -> bool:
    """Whether a value only says what is looked at: guesses, the open view and steps leave a lesson as it is."""
    return name == f"{page}.view" or name.startswith((f"{page}.guess.", f"{page}.step"))
