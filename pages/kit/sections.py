"""The parts that every page has: question, answer, a guess, examples, three views, and what the papers say.

The words are sections of `assets/prose/<language>/<page>.md`, the buttons of the examples are in `assets/examples/<page>.json`.
The numbers in a sentence come from the run, and so does the choice of the sentence: the page's study has a tested rule that
names a kind, and the kind names the section.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from pages.kit import state
from pages.kit.context import Page
from pages.kit.text import ASSETS, _, data, prose, sections

VIEWS = {"step": _("Step"), "measure": _("Measure"), "theory": _("Theory")}
_FOUND, _TRIED, _DONE = "_found", "_tried", "_tried_state"
"""Names in the session: page and kind of the last answer; page and example last pressed; the state that the example made."""


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
    """A formula with the numbers of this run: section `formula_<name>`, in LaTeX. LaTeX's own braces are doubled there."""
    st.latex(prose(page.name, f"formula_{name}", **numbers))


def said(page: Page, **numbers: Any) -> None:
    """What the papers say, and what is measured here: section `said`."""
    st.caption(prose(page.name, "said", **numbers))


def views(page: Page, *, step: Callable[[], None], measure: Callable[[], None], theory: Callable[[], None]) -> None:
    """The switch under the picture, and the chosen view; nothing of the others is computed. At first no view is chosen."""
    st.divider()
    chosen = state.choose_or_none(f"{page.name}.view", _("Look closer"), list(VIEWS), labels=VIEWS.__getitem__, view=True)
    if chosen is None:
        st.caption(
            _("*Step*: how it works, frame by frame. *Measure*: maps and curves of this sequence. *Theory*: the formulas.")
        )
    else:
        {"step": step, "measure": measure, "theory": theory}[chosen]()


def predict(page: Page, name: str, options: Sequence[str], right: int, **numbers: Any) -> bool:
    """A question before its answer: sections `predict_<name>` and, after the guess, `revealed_<name>`.

    `right` is the index of the option that is true in this run. Returns True once the visitor has guessed or asked to see the
    answer. When presenting nothing is asked: the presenter asks the room.
    """
    if page.presenting:
        return True
    key = f"{page.name}.guess.{name}"
    guess = state.recall(key, None, lambda text: int(text) if int(text) <= len(options) else None)
    remember = partial(state.remember, key, view=True)
    with st.container(border=True, key=f"predict-{name}"):
        if guess is None:
            st.markdown(f"**{_('Guess first.')}** {prose(page.name, f'predict_{name}', **numbers)}")
            with st.container(horizontal=True):
                for index, option in enumerate(options):
                    st.button(option, key=f"guess {name} {index}", on_click=remember, args=(index,))
                st.button(_("Just show me"), key=f"show {name}", type="tertiary", on_click=remember, args=(len(options),))
            return False
        verdict = "" if guess == len(options) else f"**{_('Right.') if guess == right else _('Not this time.')}** "
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(verdict + prose(page.name, f"revealed_{name}", **numbers))
            st.button(_("Ask again"), key=f"again {name}", type="tertiary", on_click=remember, args=(None,))
    return True


def examples(page: str) -> list[dict[str, Any]]:
    """The examples of a page: name, label, the state that the button sets, and the kind of answer that is expected."""
    path = Path("examples") / f"{page}.json"
    return list(data(str(path))) if (ASSETS / path).exists() else []


def try_this(page: Page, kind: str, **numbers: Any) -> None:
    """Buttons that set dials, and what to watch: section `watch_<example>_<kind>`, or `watch_<example>`.

    The sentence stays until a value changes that is no view. Not shown when presenting.
    """
    if page.presenting:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="try-this"):
        st.markdown(f"**{_('Try this')}**", width="content")
        for example in examples(page.name):
            st.button(_(example["label"]), key=f"try {example['name']}", on_click=_begin, args=(page.name, example["name"]))
    active = _active(page.name)
    if active is not None:
        of_kind = f"watch_{active}_{kind}"
        section = of_kind if of_kind in sections(page.name) else f"watch_{active}"
        st.info(prose(page.name, section, **numbers))


def _begin(page: str, name: str) -> None:
    example = next(example for example in examples(page) if example["name"] == name)
    state.put({key: str(value) for key, value in example["sets"].items()})
    st.session_state[_TRIED] = (page, name)
    st.session_state[_DONE] = None


def _active(page: str) -> str | None:
    """The example whose button was pressed last, as long as the state is what the example made of it, apart from views."""
    tried = st.session_state.get(_TRIED)
    if tried is None or tried[0] != page:
        return None
    now, done = state.snapshot(), st.session_state.get(_DONE)
    if done is None:
        st.session_state[_DONE] = now
    # On both sides: a link may have brought a value along that was declared as a view only after the example began.
    elif state.without_views(done) != state.without_views(now):
        st.session_state[_TRIED] = None
        return None
    return str(tried[1])
