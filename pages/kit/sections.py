"""The bones of a page: question, answer, a guess, things to try, what the papers say beside what is measured.

Words stand in `assets/prose/<language>/<page>.md`, buttons in `assets/examples/<page>.json`. A sentence's numbers come
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


def question(page: Page, **numbers: Any) -> None:
    """The page's question as its title: section `question`."""
    with page.top:
        st.title(prose(page.name, "question", **numbers), anchor=False)


def answer(page: Page, kind: str, **numbers: Any) -> None:
    """The answer in one sentence, with numbers of this run: section `answer_<kind>`."""
    st.session_state[_FOUND] = (page.name, kind)
    with page.top:
        st.markdown(prose(page.name, f"answer_{kind}", **numbers))
        if not page.causal and "unmasked" in sections(page.name):
            st.caption(prose(page.name, "unmasked"))


def formula(page: Page, name: str, **numbers: Any) -> None:
    """A formula with today's numbers in it: section `formula_<name>`, in LaTeX. Braces of LaTeX stand doubled there."""
    st.latex(prose(page.name, f"formula_{name}", **numbers))


def said(page: Page, **numbers: Any) -> None:
    """What the papers say, and what is measured here: section `said`."""
    st.caption(prose(page.name, "said", **numbers))


def views(page: Page, *, step: Callable[[], None], measure: Callable[[], None], theory: Callable[[], None]) -> None:
    """The switch under the picture, and the view that is chosen; nothing of the others is computed. None to begin with."""
    st.divider()
    chosen = state.choose_or_none(f"{page.name}.view", _("Look closer"), list(VIEWS), labels=VIEWS.__getitem__)
    if chosen is None:
        st.caption(
            _("*Step*: how it works, frame by frame. *Measure*: maps and curves of this sequence. *Theory*: the formulas.")
        )
    else:
        {"step": step, "measure": measure, "theory": theory}[chosen]()


def predict(page: Page, name: str, options: Sequence[str], right: int, **numbers: Any) -> bool:
    """A question before its answer: sections `predict_<name>` and, once guessed, `revealed_<name>`.

    `right` is the index of the option that this run makes true. True once the visitor has guessed, or asked to see.
    Presenting asks nothing, because the room does.
    """
    if page.presenting:
        return True
    label = f"{page.name}.guess.{name}"
    guess = state.recall(label, None, lambda text: int(text) if int(text) <= len(options) else None)
    with st.container(border=True, key=f"predict-{name}"):
        if guess is None:
            st.markdown(f"**{_('Guess first.')}** {prose(page.name, f'predict_{name}', **numbers)}")
            with st.container(horizontal=True):
                for index, option in enumerate(options):
                    st.button(option, key=f"guess {name} {index}", on_click=state.remember, args=(label, index))
                st.button(
                    _("Just show me"), key=f"show {name}", type="tertiary", on_click=state.remember, args=(label, len(options))
                )
            return False
        verdict = "" if guess == len(options) else f"**{_('Right.') if guess == right else _('Not this time.')}** "
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(verdict + prose(page.name, f"revealed_{name}", **numbers))
            st.button(_("Ask again"), key=f"again {name}", type="tertiary", on_click=state.remember, args=(label, None))
    return True


def examples(page: str) -> list[dict[str, Any]]:
    """The things to try on a page: name, label, the state that the button sets, and the kind of answer that it claims."""
    path = Path("examples") / f"{page}.json"
    return list(data(str(path))) if (ASSETS / path).exists() else []


def try_this(page: Page, kind: str, **numbers: Any) -> None:
    """Buttons that set dials, and what to watch: section `watch_<example>_<kind>`, or `watch_<example>`.

    The sentence stands as long as nothing else is changed. Not shown when presenting.
    """
    if page.presenting:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="try-this"):
        st.markdown(f"**{_('Try this')}**", width="content")
        for example in examples(page.name):
            st.button(_(example["label"]), key=f"try {example['name']}", on_click=_begin, args=(page.name, example["name"]))
    active = _active(page.name)
    if active is not None:
        found = sections(page.name)
        section = f"watch_{active}_{kind}" if f"watch_{active}_{kind}" in found else f"watch_{active}"
        st.info(prose(page.name, section, **numbers))


def _begin(page: str, name: str) -> None:
    example = next(example for example in examples(page) if example["name"] == name)
    state.put({key: str(value) for key, value in example["sets"].items()})
    st.session_state[_TRIED] = (page, name)
    st.session_state[_DONE] = None


def _active(page: str) -> str | None:
    """The example whose button was pressed last, while the state is still what it made of it."""
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
    """Whether a value only says what is looked at: guesses, the open view and steps leave an example as it is."""
    return name == f"{page}.view" or name.startswith((f"{page}.guess.", f"{page}.step"))
