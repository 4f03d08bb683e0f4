"""What goes to the browser and what comes back: the bytes are right, the hidden stays hidden, the forged is dropped."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longattn_core.charts.cells import RibbonRow, Window, cell_edges, encode, future_cells, pool_cells
from longattn_core.charts.pictures import MapPicture, RibbonsPicture
from longattn_core.charts.style.scales import difference_scale, weight_scale
from longattn_core.charts.style.theme import BELOW, FUTURE, LEVELS, NEVER, Theme
from pages.kit.components import attention_map as maps
from pages.kit.components import ribbons as strips
from pages.kit.components.messages import fingerprint, pack

NAN = np.nan


class Browser:
    """Stands in for Streamlit: keeps what was sent, and answers with what a client claims."""

    def __init__(self, **answers):
        self.answers = answers
        self.head, self.planes, self.raw, self.callbacks = {}, {}, b"", {}

    def __call__(self, *, key, data, **callbacks):
        size = struct.unpack_from("<I", data)[0]
        self.raw, self.callbacks = data, callbacks
        self.head = json.loads(data[4 : 4 + size])
        at = 4 + size
        for name, length in self.head["planes"]:
            self.planes[name] = np.frombuffer(data[at : at + length], np.uint8)
            at += length
        assert at == len(data)
        return self.answers


@pytest.fixture
def draw_map(monkeypatch):
    def draw(values, answers=(), **options):
        browser = Browser(**dict(answers))
        monkeypatch.setattr(maps, "_mount", browser)
        return browser, maps.attention_map(MapPicture(values=values, title="Map", **options), key="m", theme=Theme())

    return draw


@pytest.fixture
def draw_ribbons(monkeypatch):
    def draw(rows, answers=(), state=None, **options):
        browser = Browser(**dict(answers))
        monkeypatch.setattr(strips, "_mount", browser)
        monkeypatch.setattr(strips.st, "session_state", {} if state is None else {"r": state})
        picture = {"tokens": [f" t{i}" for i in range(8)], "query": 7}
        picture |= {name: options.pop(name) for name in ("tokens", "query", "marked", "causal") if name in options}
        return browser, strips.ribbons(RibbonsPicture(rows=rows, **picture), key="r", theme=Theme(), **options)

    return draw


# ----------------------------------------------------------------------------------------------------- packing


def test_codes_stand_for_values_and_nan_is_never_looked_at():
    cells = encode([[0.0, 1.0, NAN, 0.01]], weight_scale())
    assert cells.codes.tolist() == [[0, LEVELS - 1, NEVER, LEVELS // 2]]


@given(st.floats(1.001e-4, 1.0))
def test_two_bytes_give_a_weight_back_to_three_digits(weight):
    cells = encode([[weight]], weight_scale())
    step = (int(cells.codes[0, 0]) * 256 + int(cells.fine[0, 0])) / (LEVELS * 256 - 1)
    # Half of one of 64,767 steps over four decades is 0.007 %.
    assert float(weight_scale().value(step)) == pytest.approx(weight, rel=1e-4)


def test_the_future_is_hatched_but_a_leak_into_it_is_shown():
    future = future_cells(Window(r0=0, r1=3, c0=0, c1=3), (3, 3))
    values = np.array([[0.5, 0.0, NAN], [0.5, 0.5, 0.2], [0.3, NAN, 0.3]])
    codes = encode(values, weight_scale(), future=future).codes
    assert codes[0, 1] == codes[0, 2] == FUTURE
    assert codes[1, 2] < LEVELS
    assert codes[2, 1] == NEVER


def test_a_weight_below_zero_is_no_small_weight():
    cells = encode([[-0.1, -0.01, -1e-9]], weight_scale())
    assert cells.codes.tolist() == [[BELOW, BELOW, 0]]
    assert cells.fine[0, 0] > cells.fine[0, 1]


def test_no_difference_is_the_middle_step_and_signs_are_kept():
    codes = encode([[-1.0, -0.1, 0.0, 0.1, 1.0]], difference_scale()).codes[0].astype(int)
    assert codes.tolist() == [0, LEVELS - 1 - codes[3], LEVELS // 2, codes[3], LEVELS - 1]
    assert codes[3] > LEVELS // 2


def test_infinite_weights_are_refused():
    with pytest.raises(ValueError, match="1 infinite"):
        encode([[np.inf, 0.0]], weight_scale())


@given(st.integers(0, 50), st.integers(1, 300), st.integers(1, 400))
def test_cell_edges_are_those_of_the_core(start, span, cells):
    from longattn_core.contracts.indexing import edges

    assert cell_edges(start, start + span, cells).tolist() == edges(start, start + span, cells)


def test_pooling_keeps_the_largest_counts_the_unseen_as_nothing_in_a_mean_and_forgets_no_ragged_end():
    x = np.array([[0.1, 0.2, NAN], [0.3, 0.4, NAN], [NAN, NAN, -0.9]])
    largest = pool_cells(x, (2, 2), "max")
    np.testing.assert_array_equal(largest, [[0.1, 0.2], [0.3, -0.9]])
    # Five terms that nearly cancel: the order of the sum moves a few units in the last place.
    np.testing.assert_allclose(pool_cells(x, (1, 1), "mean"), [[(0.1 + 0.2 + 0.3 + 0.4 - 0.9) / 9]], rtol=1e-13)
    assert np.isnan(pool_cells(np.full((4, 4), NAN), (2, 2), "mean")).all()


def test_pooling_agrees_with_a_mechanism_that_pools():
    import torch

    from longattn_core.contracts.sequence import Sequence
    from longattn_core.registry import mechanism

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 37, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    attended = mechanism("exact").attend(Sequence(q=q, k=k, v=v, causal=True))
    for reduce in ("max", "mean"):
        theirs = attended.pooled(shape=(10, 10), reduce=reduce)[0].numpy()
        # float64 sums in another order differ by a few units in the last place.
        np.testing.assert_allclose(pool_cells(attended.rows()[0].numpy(), (10, 10), reduce), theirs, rtol=1e-12, atol=1e-15)


def test_a_message_says_what_changed():
    one, two = pack({"a": 1}, {"x": b"12"}), pack({"a": 1}, {"x": b"13"})
    assert one == pack({"a": 1}, {"x": b"12"})
    assert one[: one.index(b"signature")] == two[: two.index(b"signature")]
    assert one != two


# ----------------------------------------------------------------------------------------------------- the map


def test_a_map_sends_a_byte_a_cell_and_its_window(draw_map):
    window = Window(r0=10, r1=14, c0=0, c1=8)
    browser, _ = draw_map(np.full((4, 4), 0.5), full=(20, 20), window=window, causal=True)
    assert browser.head["shape"] == [4, 4]
    assert browser.head["window"] == [10, 14, 0, 8]
    assert browser.planes["codes"].shape == browser.planes["fine"].shape == (16,)
    assert browser.planes["palette"].shape == (768,)


def test_a_large_map_leaves_the_second_byte_out(draw_map):
    browser, _ = draw_map(np.zeros((512, 512)))
    assert "fine" not in browser.planes
    assert len(browser.raw) < 512 * 512 + 8000


def test_equal_tokens_are_sent_once_and_as_text(draw_map):
    tokens = ["<script>", "\udc80", "b"]
    browser, _ = draw_map(np.zeros((3, 3)), tokens_rows=tokens)
    assert browser.head["rows"] == tokens
    assert browser.head["cols"] is None
    assert browser.head["same"] is True


# Without the checks of types: they would refuse an unknown `reduce` before the map does.
@pytest.mark.usefixtures("_shapes_unchecked")
@pytest.mark.parametrize(
    ("values", "options", "sentence"),
    [
        (np.zeros(3), {}, "two axes"),
        (np.zeros((2000, 2)), {}, "at most 1024 cells"),
        (np.zeros((4, 4)), {"window": Window(r0=0, r1=3, c0=0, c1=4), "full": (9, 9)}, "cannot fill"),
        (np.zeros((4, 4)), {"window": Window(r0=6, r1=10, c0=0, c1=4), "full": (9, 9)}, "ends at query 10"),
        (np.zeros((4, 4)), {"tokens_rows": ["a"]}, "tokens_rows must have one entry a position, 4, found 1"),
        (np.zeros((4, 4)), {"reduce": "median"}, "'mean' or 'max'"),
    ],
)
def test_a_map_that_does_not_fit_is_refused_in_a_sentence(draw_map, values, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw_map(values, **options)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        5,
        "row",
        [],
        {"row": 1},
        {"row": -1, "col": 0},
        {"row": 8, "col": 0},
        {"row": 0, "col": 1e9},
        {"row": "1", "col": 1},
        {"row": True, "col": 1},
        {"row": 1.5, "col": 1},
        {"row": 1, "col": 1, "x": 1},
        {"row": 1, "col": 1, "rows": 0},
        {"row": 7, "col": 1, "rows": 2},
        {"row": 10**400, "col": 0},
    ],
)
def test_a_forged_click_is_no_click(draw_map, sent):
    _, result = draw_map(np.zeros((8, 8)), answers={"clicked": sent})
    assert result.clicked is None


def test_an_honest_click_comes_through(draw_map):
    _, result = draw_map(np.zeros((8, 8)), answers={"clicked": {"row": 6, "col": 7, "rows": 2, "cols": 1}})
    assert result.clicked == maps.Pair(row=6, col=7, rows=2, cols=1)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"r0": 10, "r1": 40, "c0": 0, "c1": 30}, (10, 40, 0, 30)),
        ({"r0": -50, "r1": 40, "c0": 70, "c1": 9999}, (0, 40, 70, 100)),
        ({"r0": 50, "r1": 51, "c0": 0, "c1": 30}, (50, 58, 0, 30)),
        ({"r0": 99, "r1": 100, "c0": 0, "c1": 30}, (92, 100, 0, 30)),
        ({"r0": 0, "r1": 100, "c0": 0, "c1": 100}, None),
        ({"r0": 40, "r1": 10, "c0": 0, "c1": 30}, None),
        ({"r0": 200, "r1": 300, "c0": 0, "c1": 30}, None),
        ({"r0": 1.0, "r1": 40, "c0": 0, "c1": 30}, None),
        ({"r0": 1, "r1": 40, "c0": 0}, None),
        (7, None),
        (None, None),
    ],
)
def test_a_view_is_clamped_or_dropped(sent, kept):
    view = maps.checked_view(sent | {"of": [100, 100]} if isinstance(sent, dict) else sent, full=(100, 100))
    assert (None if view is None else (view.r0, view.r1, view.c0, view.c1)) == kept


@pytest.mark.parametrize("of", [[64, 100], [100], None, "all", [100, 100, 1]])
def test_a_view_of_a_map_of_another_size_is_dropped(of):
    sent = {"r0": 10, "r1": 40, "c0": 0, "c1": 30, "of": of}
    assert maps.checked_view(sent, full=(100, 100)) is None


@given(st.integers(1, 5000), st.integers(-20, 6000), st.integers(-20, 6000), st.integers(1, 600))
def test_the_window_for_a_view_holds_it_and_stays_in_the_map(n, start, stop, cells):
    view = maps.checked_view({"r0": start, "r1": stop, "c0": start, "c1": stop, "of": [n, n]}, full=(n, n))
    window, shape = maps.window_for(view, full=(n, n), cells=cells)
    assert 0 <= window.r0 < window.r1 <= n
    assert shape == (min(cells, window.rows), min(cells, window.cols))
    if view is None:
        assert (window.rows, window.cols) == (n, n)
    else:
        assert window.r0 <= view.r0 < view.r1 <= window.r1
        assert view.rows >= min(n, maps.LEAST_WINDOW)
        # What fits token by token is shown token by token: the margin never costs the view its resolution.
        assert view.rows > cells or shape[0] == window.rows


def test_a_map_says_in_words_where_it_peaks():
    values = np.array([[0.1, NAN], [0.2, 0.8]])
    said = maps.describe(
        values,
        title="Window",
        full=(4, 4),
        window=Window(r0=0, r1=4, c0=0, c1=4),
        scale=weight_scale(),
        tokens=["a", "b", " clock", "d"],
        keys=["a", "b", " clock", "d"],
    )
    assert said == (
        "Window: 4 queries by 4 keys. Largest weight 0.8 at query “clock” (2), key “clock” (2). "
        "25% of the cells were never looked at."
    )


# ------------------------------------------------------------------------------------------------- the ribbons


def rows():
    return [
        RibbonRow(key="exact", title="Exact", weights=np.linspace(0, 1, 8), facts=(("looked at", "8"),)),
        RibbonRow(
            key="window",
            title="Window",
            weights=np.full(8, 0.123456),
            facts=(("overlap", "0.77"),),
            badges=("random draw",),
            hidden=True,
        ),
        RibbonRow(key="low_rank", title="Linformer", refusal="It cannot be causal.", badges=("fitted here",)),
        RibbonRow(key="lsh", title="LSH", weights=np.array([NAN] * 7 + [1.0])),
    ]


def test_nothing_of_a_hidden_row_is_sent_but_its_title(draw_ribbons):
    browser, _ = draw_ribbons(rows(), predict=("finds it", "loses it"))
    assert browser.planes["codes"].shape == (2 * 8,)
    hidden = browser.head["rows"][1]
    assert (hidden["state"], hidden["plane"], hidden["facts"], hidden["badges"]) == ("hidden", -1, [""], [])
    assert b"0.77" not in browser.raw
    assert b"0.123" not in browser.raw
    assert "Window: not revealed yet." in browser.head["alt"]
    code = encode([0.123456], weight_scale()).codes[0]
    assert code not in browser.planes["codes"]


def test_planes_follow_the_rows_that_are_shown(draw_ribbons):
    browser, _ = draw_ribbons(rows())
    assert [row["plane"] for row in browser.head["rows"]] == [0, -1, -1, 1]
    assert browser.planes["codes"][8:].tolist() == [NEVER] * 7 + [LEVELS - 1]
    assert browser.head["rows"][2]["refusal"] == "It cannot be causal."


def test_tokens_after_the_query_are_the_future_only_under_a_mask(draw_ribbons):
    row = [RibbonRow(key="exact", title="Exact", weights=np.r_[np.ones(4) / 4, np.zeros(4)])]
    masked, _ = draw_ribbons(row, query=3)
    free, _ = draw_ribbons(row, query=3, causal=False)
    assert masked.planes["codes"].tolist()[4:] == [FUTURE] * 4
    assert free.planes["codes"].tolist()[4:] == [0] * 4


def test_an_old_choice_does_not_follow_into_a_new_text(draw_ribbons):
    here = fingerprint(tuple(f" t{i}" for i in range(8)))
    _, result = draw_ribbons(rows(), answers={"query": {"token": 3, "of": here, "nth": 1}})
    assert result.query == 3
    _, result = draw_ribbons(rows(), answers={"query": {"token": 3, "of": "another text", "nth": 1}})
    assert result.query == 7


@pytest.mark.parametrize("token", [8, -1, "3", 3.0, None, True, [3]])
def test_a_forged_query_is_no_query(draw_ribbons, token):
    here = fingerprint(tuple(f" t{i}" for i in range(8)))
    _, result = draw_ribbons(rows(), answers={"query": {"token": token, "of": here, "nth": 1}})
    assert result.query == 7


@pytest.mark.parametrize(
    "sent",
    [
        None,
        {"mechanism": "nobody", "key": 1},
        {"mechanism": "exact", "key": 8},
        {"mechanism": "window", "key": 1},
        {"mechanism": "exact", "key": "1"},
        {"mechanism": "exact" * 99, "key": 1},
        "exact",
    ],
)
def test_a_forged_click_on_a_ribbon_is_no_click(draw_ribbons, sent):
    _, result = draw_ribbons(rows(), answers={"clicked": sent})
    assert result.clicked is None


def test_guesses_are_kept_for_hidden_rows_alone(draw_ribbons):
    sent = {"window": True, "exact": False, "nobody": True, "lsh": "yes"}
    _, result = draw_ribbons(rows(), answers={"guesses": sent})
    assert result.guesses == {"window": True}
    _, result = draw_ribbons(rows(), answers={"guesses": {"window": "<b>"}})
    assert result.guesses == {}


def test_callbacks_hear_only_what_was_checked(draw_ribbons):
    heard = []
    here = fingerprint(tuple(f" t{i}" for i in range(8)))
    options = {"on_query": heard.append, "on_clicked": heard.append}
    state = {"query": {"token": 2, "of": here, "nth": 1}, "clicked": {"mechanism": "exact", "key": 4}}
    browser, _ = draw_ribbons(rows(), state=state, **options)
    browser.callbacks["on_query_change"]()
    browser.callbacks["on_clicked_change"]()
    assert heard == [2, strips.RibbonCell(mechanism="exact", key=4)]
    forged = {"query": {"token": 99, "of": here, "nth": 1}, "clicked": {"mechanism": "window", "key": 4}}
    browser, _ = draw_ribbons(rows(), state=forged, **options)
    browser.callbacks["on_query_change"]()
    browser.callbacks["on_clicked_change"]()
    assert len(heard) == 2


def test_any_number_of_mechanisms_and_8192_tokens_stay_small(draw_ribbons):
    tokens = [f" {i}" for i in range(8192)]
    many = [RibbonRow(key=f"guest{i}", title=f"Guest {i}", weights=np.zeros(8192)) for i in range(30)]
    browser, _ = draw_ribbons(many, tokens=tokens, query=8191)
    assert len(browser.raw) < 30 * 2 * 8192 + 12 * 8192
    assert len({row["colour"] for row in browser.head["rows"]}) == 30


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tokens": []}, "found 0"),
        ({"tokens": ["a"] * 8193}, "found 8193"),
        ({"query": 8}, "0 … 7"),
        ({"marked": -1}, "0 … 7"),
        ({"text": "beside"}, "'beside'"),
    ],
)
def test_ribbons_that_do_not_fit_are_refused_in_a_sentence(draw_ribbons, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw_ribbons([], **change)


def test_a_ribbon_of_the_wrong_length_or_name_is_refused(draw_ribbons):
    with pytest.raises(ValueError, match=r"one weight a token, 8, found \[3\]"):
        draw_ribbons([RibbonRow(key="exact", title="Exact", weights=np.zeros(3))])
    with pytest.raises(ValueError, match="key of its own"):
        draw_ribbons([RibbonRow(key="a", title="A"), RibbonRow(key="a", title="B")])
