"""Every page of the atlas without a browser: sources, variants, extremes, views, things to try, and random walks."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from streamlit.testing.v1 import AppTest

from longattn_core import MECHANISMS, jobs
from longattn_core.sequences import library
from longattn_core.sequences.synthetic import KINDS
from pages.cost import hero as cost_hero
from pages.kit.menu import entries
from pages.kit.sections import VIEWS, examples
from pages.kit.text import sections
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("_components_sought_once", "_shapes_unchecked")
PAGES = [name for name in sorted(entries()) if name != "side_by_side"]
SMALL = {"source": "synthetic", "kind": "gaussian", "syn.gaussian.n": "48", "syn.gaussian.d": "16"}
WIDGETS = ("select_slider", "slider", "toggle", "selectbox", "number_input", "button_group")


@pytest.fixture(autouse=True)
def _no_long_work(request, monkeypatch):
    """Background work ends before its first point, but in the tests that are about it; no cost is counted ahead."""
    monkeypatch.setattr(cost_hero, "_preload_counts", lambda _causal: None)
    if "sweep" not in request.node.name:
        monkeypatch.setattr(jobs, "PATIENCE", -1.0)


def opened(page, *, all_dials=False, **query):
    """The page as its file alone, with this in its address; `all_dials` draws those too that are put away."""
    app = AppTest.from_file(str(ROOT / "pages" / page / "page.py"), default_timeout=120)
    if all_dials:
        app.session_state[f"more of {page}"] = True
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def healthy(app):
    assert not app.exception, app.exception
    return app


def shown(app):
    """What the page says; it shows its question, and no sentence of the core where nothing was wrong."""
    healthy(app)
    assert app.title, [error.value for error in app.error]
    assert not app.error, app.error[0].value
    return app


def found(app):
    return app.session_state["_found"]


def test_the_atlas_has_its_eleven_pages():
    assert set(PAGES) >= {
        "dilution",
        "heads",
        "relative",
        "window",
        "segmented",
        "hierarchical",
        "memory",
        "lsh",
        "routed",
        "low_rank",
        "favor",
    }


@pytest.mark.model
@pytest.mark.parametrize("page", PAGES)
def test_the_default_page_answers_its_question_and_judges_a_guess(page):
    app = shown(opened(page))
    name, kind = found(app)
    assert name == page
    assert f"answer_{kind}" in sections(page)
    guesses = [button for button in app.button if str(button.key).startswith("guess ")]
    assert guesses, "a page asks before it answers"
    guesses[0].click().run()
    shown(app)
    assert any(str(button.key).startswith("again ") for button in app.button)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_shown(page, view):
    shown(opened(page, **SMALL, **{f"{page}.view": view}))


@pytest.mark.parametrize("page", PAGES)
def test_every_synthetic_sequence_is_shown(page):
    """Under the one mask and the other in turn, which halves the runs and leaves none of both out."""
    app = opened(page, **SMALL, **{f"syn.{kind}.n": "48" for kind in KINDS if kind != "gaussian"})
    for number, kind in enumerate(KINDS):
        app.session_state["in:kind"] = kind
        app.session_state["in:mask"] = ("causal", "none")[(number + PAGES.index(page)) % 2]
        app.run()
        healthy(app)
        assert not app.error, (kind, app.error[0].value)


@pytest.mark.parametrize("page", PAGES)
def test_an_upload_is_shown(page, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "heads.npz"
    np.savez(path, **{name: rng.normal(size=(2, 40, 8)).astype(np.float32) for name in "qkv"})
    name = library.put(path.read_bytes())
    uploaded = {"source": "uploaded", "file": name, "filename": "heads.npz", "uploadhead": "1"}
    shown(opened(page, **uploaded, **{f"{page}.view": "measure"}))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("n", ["1", "2"])
def test_the_shortest_sequences_are_shown_or_refused_in_a_sentence(page, n, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "short.npz"
    np.savez(path, **{name: rng.normal(size=(int(n), 4)).astype(np.float32) for name in "qkv"})
    name = library.put(path.read_bytes())
    healthy(opened(page, source="uploaded", file=name, **{f"{page}.view": "measure" if n == "1" else "step"}))


@pytest.mark.parametrize("page", [page for page in PAGES if page in MECHANISMS])
def test_every_variant_of_its_mechanism_is_shown_or_refused_in_a_sentence(page):
    for number, setting in enumerate(MECHANISMS[page].variants()):
        dials = {f"m.{page}.{name}": text_of(value) for name, value in setting.model_dump(mode="json").items()}
        mask, view = ("causal", "none")[number % 2], ("step", "theory")[number // 2 % 2]
        app = healthy(opened(page, **SMALL, **dials, mask=mask, **{f"{page}.view": view}))
        assert not app.error, (setting, app.error[0].value)


def text_of(value):
    if isinstance(value, bool):
        return "1" if value else "0"
    return "~".join(map(str, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize("page", [page for page in PAGES if page in MECHANISMS])
def test_dials_that_are_put_away_keep_what_was_chosen(page):
    """Also what a link says of them, and no value that the dial itself would not take."""
    dials = {
        f"m.{page}.{name}": text_of(value)
        for name, value in list(MECHANISMS[page].variants())[-1].model_dump(mode="json").items()
    }
    dials[f"m.{page}.seed"] = "-7"
    closed = healthy(opened(page, **SMALL, **dials))
    whole = healthy(opened(page, all_dials=True, **SMALL, **dials))
    assert len(dials_of(closed)) < len(dials_of(whole))
    assert dict(closed.query_params) == dict(whole.query_params)
    assert found(closed) == found(whole)


@pytest.mark.parametrize("page", PAGES)
def test_the_extremes_of_every_dial_are_shown_or_refused_in_a_sentence(page):
    app = shown(opened(page, all_dials=True, **SMALL, **{f"{page}.view": "step"}))
    # A dial that another one brings up has its turn too.
    done = set()
    for end in (1, 0):
        while todo := [widget for widget in dials_of(app) if (widget.key, end) not in done]:
            done.add((todo[0].key, end))
            extremes(todo[0])[end](todo[0]).run()
            healthy(app)


def dials_of(app):
    """The dials of the page, those of the input bar's sequence left to their own tests."""
    widgets = [widget for kind in WIDGETS for widget in app.get(kind)]
    return [
        widget
        for widget in widgets
        if str(widget.key).startswith("in:") and not str(widget.key).startswith(("in:syn.", "in:source", "in:kind", "in:scale"))
    ]


def by_its_label(widget, label):
    """Choose what a person reads: AppTest would have it by the value behind the label, which the page alone knows."""
    kind = type(widget)
    if kind.__name__ != "Labelled":
        widget.__class__ = type("Labelled", (kind,), {"format_func": property(lambda _widget: str)})
    several = widget.type == "button_group" and not widget._is_single_select
    return widget.set_value([label] if several else label)


def extremes(widget):
    """What leads a widget to its first and its last value."""
    if getattr(widget, "options", None):
        return [lambda w, label=label: by_its_label(w, label) for label in (widget.options[0], widget.options[-1])]
    ends = [True, False] if widget.type == "toggle" else [widget.min, widget.max]
    return [lambda w, value=value: w.set_value(value) for value in ends]


@pytest.mark.model
@pytest.mark.parametrize("page", PAGES)
def test_every_thing_to_try_shows_what_it_claims(page):
    """Each in turn on one visit, so that what the last one left behind does not disturb the next."""
    tries = examples(page)
    assert 2 <= len(tries) <= 4
    app = shown(opened(page))
    for example in tries:
        app.button(key=f"try {example['name']}").click().run()
        shown(app)
        assert found(app) == (page, example["expects"]), example["name"]
        assert any(name.startswith(f"watch_{example['name']}") for name in sections(page))
        assert app.info, example["name"]
        sentence = watched(app, page)
        assert sentence is not None
        # Nothing was touched: every value must have one text, however often it goes through its widget.
        assert watched(shown(app.run()), page) == sentence, example["name"]


VIEW_SWITCHES = {
    "cost": [("measure", "cost.picture", "table")],
    "dilution": [("measure", "dilution.picture", "sorted")],
    "favor": [
        ("step", "favor.step.face", "kernel"),
        ("step", "favor.step.pace", "token"),
        ("measure", "favor.step.way", "orthogonal"),
        ("measure", "favor.step.equal", "width"),
        ("measure", "favor.step.measure", "norms"),
        ("theory", "favor.step.law", "claims"),
    ],
    "heads": [("measure", "heads.column", "sinks"), ("measure", "heads.picture", "likeness")],
    "hierarchical": [
        ("measure", "hierarchical.map", "inner"),
        ("measure", "hierarchical.measure", "cost"),
        ("measure", "hierarchical.plain", True),
    ],
    "low_rank": [
        ("measure", "low_rank.face", "exact"),
        ("measure", "low_rank.error_of", "map_error"),
        ("step", "low_rank.step_method", "linformer"),
        ("step", "low_rank.step_rank", 8),
        ("step", "low_rank.step_mix", "gaussian"),
    ],
    "lsh": [("measure", "lsh.over", "seeds"), ("measure", "lsh.round", "2")],
    "memory": [
        ("measure", "memory.bare", False),
        ("measure", "reduce", "mean"),
        ("measure", "face", "exact"),
        ("theory", "memory.layers", 3),
    ],
    "relative": [
        ("step", "relative.step_query", 20),
        ("step", "relative.step_distance", 2),
        ("measure", "relative.trained", 512),
        ("measure", "relative.stretch", 2.0),
        ("measure", "relative.lag", 4),
    ],
    "routed": [
        ("measure", "routed.measure", "errors"),
        ("measure", "routed.plain", True),
        ("measure", "routed.measure", "sweep"),
        ("measure", "routed.sweep", "recall"),
    ],
    "segmented": [
        ("step", "segmented.query", 100),
        ("measure", "segmented.measure", "overlap"),
        ("theory", "segmented.layers", 3),
    ],
    "window": [("measure", "window.what", "maps"), ("measure", "scale", "linear")],
}
"""Of each page, switches that only say what is looked at: the view that has them, their name in the state, another value."""


@pytest.mark.model
@pytest.mark.parametrize("page", PAGES)
def test_what_to_watch_in_an_example_stays_while_only_what_is_looked_at_changes(page):
    app = shown(opened(page))
    app.button(key=f"try {examples(page)[0]['name']}").click().run()
    sentence = watched(app, page)
    assert sentence is not None
    for view, switch, other in VIEW_SWITCHES.get(page, []):
        if app.query_params.get(f"{page}.view") != view:
            app.button_group(key=f"in:{page}.view").set_value(view).run()
            assert watched(app, page) == sentence, view
        assert f"in:{switch}" in app.session_state, "the page draws the switch"
        app.session_state[f"in:{switch}"] = other
        app.run()
        # The state holds the new value from here on: a widget writes it where it is drawn, below the sentence.
        assert app.query_params[switch] == text_of(other)
        shown(app.run())
        assert watched(app, page) == sentence, switch


def watched(app, page):
    """The sentence that says what to watch in an example, or None."""
    beginnings = tuple(body.partition("{")[0] for name, body in sections(page).items() if name.startswith("watch_"))
    return next((info.value for info in app.info if info.value.startswith(beginnings)), None)


@pytest.mark.parametrize("page", PAGES)
def test_presenting_shows_the_hero_alone(page):
    app = shown(opened(page, **SMALL, present="1"))
    assert not [button for button in app.button if str(button.key).startswith(("try ", "guess "))]
    assert not [group for group in app.get("button_group") if group.key == f"in:{page}.view"]


@pytest.mark.parametrize("page", PAGES)
def test_the_sweeps_of_a_page_run_and_are_drawn(page):
    query = {**SMALL, "syn.gaussian.n": "24", f"{page}.view": "measure"}
    shown(opened(page, **query))
    try:
        jobs.settle(15)
    except TimeoutError:
        # What takes longer is called off, as a visitor may, and drawn with what is there.
        for job in list(jobs._jobs.values()):
            job.cancel()
    assert [job.fault for job in jobs._jobs.values() if job.fault is not None] == []
    shown(opened(page, **query))


@pytest.mark.parametrize("page", PAGES)
def test_a_forged_link_falls_back(page):
    forged = {"view": "nope", "step": "-4", "guess.x": "7", "query": "999999", "longest": "many", "mask": "<b>"}
    query = {f"{page}.{name}": value for name, value in forged.items()} | {f"m.{page}.seed": "x", f"m.{page}.variant": "nope"}
    healthy(opened(page, **SMALL, **query))
    healthy(opened(page, **SMALL, **{f"{page}.view": "step", f"{page}.step": "999999"}))


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_are_whole(page):
    entries = json.loads((ROOT / "assets" / "examples" / f"{page}.json").read_text(encoding="utf-8"))
    for entry in entries:
        assert set(entry) == {"name", "label", "sets", "expects"}
        assert f"answer_{entry['expects']}" in sections(page)
    assert {"question", "said"} <= set(sections(page))
    assert any(name.startswith("predict_") for name in sections(page))


def walk(page):
    """A machine that turns any dial of the page to any of its values, in any order."""

    class Walk(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.app = healthy(opened(page, all_dials=True, **SMALL))

        @rule(data=st.data())
        def turn(self, data):
            widgets = dials_of(self.app)
            if not widgets:
                return
            widget = widgets[data.draw(st.integers(0, len(widgets) - 1), label="which dial")]
            turned(widget, data).run()
            healthy(self.app)

        @rule(data=st.data())
        def press(self, data):
            buttons = [button for button in self.app.button if not str(button.key).startswith(("try ", "unmask"))]
            if buttons:
                buttons[data.draw(st.integers(0, len(buttons) - 1), label="which button")].click().run()
                healthy(self.app)

    return Walk


def turned(widget, data):
    name = str(widget.key)
    if getattr(widget, "options", None):
        return by_its_label(widget, data.draw(st.sampled_from(list(widget.options)), label=name))
    if widget.type == "toggle":
        return widget.set_value(data.draw(st.booleans(), label=name))
    low, high = widget.min, widget.max
    values = st.integers(int(low), int(high)) if isinstance(widget.value, int) else st.floats(low, high)
    return widget.set_value(data.draw(values, label=name))


@pytest.mark.parametrize("page", PAGES)
def test_no_walk_over_the_dials_meets_a_traceback(page):
    run_state_machine_as_test(
        walk(page),
        settings=settings(
            max_examples=1,
            stateful_step_count=10,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
