"""Pictures for print: real files, with the right pixels, every word in them, and nothing that could run."""

import base64
import importlib.util
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib

import altair as alt
import numpy as np
import pytest

from longattn_core.charts.cells import RibbonRow, Window, encode, pool_cells
from longattn_core.charts.figures.ribbons import ribbons_chart, strongest
from longattn_core.charts.maps import attention_map_chart, pooling_note, visible
from longattn_core.charts.pictures import MapPicture, RibbonsPicture
from longattn_core.charts.pixels import paint
from longattn_core.charts.style.colour import rgb
from longattn_core.charts.style.png import png
from longattn_core.charts.style.scales import weight_scale
from longattn_core.charts.style.theme import FUTURE, LEVELS, NEVER, Theme
from longattn_core.export.images import chart_to_pdf, chart_to_png, chart_to_svg, image

NASTY = ["<script>alert(1)</script>", "a & b", '"quoted"', "\n", "]]>", "datum.x", "{{x}}", "\udc80\x00"]


def decoded(file: bytes) -> np.ndarray:
    """The pixels of a PNG as our writer makes it (one IDAT, no filter): an independent reading of the format."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    at, width, height, body = 8, 0, 0, b""
    while at < len(file):
        length, name = struct.unpack_from(">I4s", file, at)
        part = file[at + 8 : at + 8 + length]
        assert zlib.crc32(name + part) == struct.unpack_from(">I", file, at + 8 + length)[0]
        if name == b"IHDR":
            width, height = struct.unpack_from(">II", part)
        body += part if name == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 3 * width)
    assert (lines[:, 0] == 0).all()
    return lines[:, 1:].reshape(height, width, 3)


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def pictures(chart: alt.TopLevelMixin) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", chart.to_json())
    return [decoded(base64.b64decode(uri)) for uri in found]


def causal(n: int) -> np.ndarray:
    weights = np.tril(np.random.default_rng(0).random((n, n))) + 1e-3
    weights[np.triu_indices(n, 1)] = 0
    return weights / weights.sum(1, keepdims=True)


def test_a_png_holds_the_pixels_it_was_given():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(png(pixels)), pixels)


def test_each_kind_of_cell_has_its_own_colour_and_the_future_is_hatched():
    theme = Theme(mode="light")
    cells = encode([[1.0, np.nan, -0.5, 0.0]], weight_scale(), future=np.array([[False, False, False, True]]))
    drawn = paint(cells, theme=theme, kind="log", factor=(24, 12))
    assert drawn.shape == (24, 48, 3)
    np.testing.assert_array_equal(drawn[0, 11], theme.palette("log")[LEVELS - 1])
    np.testing.assert_array_equal(drawn[23, 12], rgb(theme.never))
    np.testing.assert_array_equal(drawn[0, 24], theme.negatives[cells.fine[0, 2]])
    future = {tuple(pixel) for pixel in drawn[:, 36:].reshape(-1, 3).tolist()}
    assert future == {rgb(theme.background), rgb(theme.hatch)}
    assert cells.codes.tolist() == [[LEVELS - 1, NEVER, 253, FUTURE]]


def test_a_map_carries_its_cells_as_pixels_in_true_order():
    theme = Theme(mode="dark")
    values = np.array([[1.0, np.nan], [0.01, 1.0]])
    picture = max(pictures(attention_map_chart(MapPicture(values=values), theme)), key=np.size)
    side = picture.shape[0] // 2
    corners = [picture[0, 0], picture[0, -1], picture[side, 0], picture[-1, -1]]
    expected = [theme.colour_of(value, weight_scale()) for value in (1.0, np.nan, 0.01, 1.0)]
    np.testing.assert_array_equal(corners, expected)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_map_is_a_whole_svg_with_axes_units_bar_and_caption(mode):
    chart = attention_map_chart(
        MapPicture(
            values=pool_cells(causal(96), (32, 32)),
            title="Exact",
            subtitle="layer 17",
            window=Window(r0=100, r1=196, c0=100, c1=196),
            causal=True,
        ),
        Theme(mode=mode),
        caption="A caption.",
    )
    words = texts(chart_to_svg(chart))
    for word in ("Exact", "layer 17", "A caption.", "query (token position)", "key (token position)", "the future", "1"):
        assert word in words
    assert "Each cell: the largest of 3 × 3 weights." in words
    # A number on each axis: Vega drops all of one axis when its domain is given upside down.
    assert words.count("120") == 2


def test_tokens_are_text_in_a_map_and_never_markup():
    chart = attention_map_chart(
        MapPicture(values=causal(8), title=NASTY[0], causal=True, tokens_rows=NASTY, tokens_cols=NASTY), Theme()
    )
    svg = chart_to_svg(chart)
    assert "<script" not in svg.lower()
    words = texts(svg)
    for token in NASTY[1:3] + NASTY[4:7]:
        assert words.count(token) == 2
    assert (words.count("↵"), words.count("□□")) == (2, 2)
    assert NASTY[0] in words


def test_what_cannot_be_seen_is_made_visible_in_a_label():
    assert [visible(token) for token in ("\n", " ", "\x00", "\t", " word")] == ["↵", "␣", "□", "⇥", "word"]
    assert visible("x" * 40) == "x" * 13 + "…"


def test_the_pooling_is_said_only_where_it_was_done():
    window = Window(r0=0, r1=100, c0=0, c1=100)
    assert pooling_note(window, (100, 100), "max") == ""
    assert pooling_note(window, (50, 25), "mean") == "Each cell: the mean of 2 × 4 weights."
    assert pooling_note(window, (60, 60), "max") == "Each cell: the largest of up to 2 × 2 weights."


@pytest.mark.parametrize(
    ("values", "options", "sentence"),
    [(np.zeros(3), {}, "two axes"), (np.zeros((3, 3)), {"tokens_rows": ["a"]}, "one entry a position, 3, found 1")],
)
def test_a_map_that_does_not_fit_is_refused_in_a_sentence(values, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        attention_map_chart(MapPicture(values=values, **options), Theme())


def ribbon_rows(n):
    weights = np.full(n, np.nan)
    weights[n // 2] = 0.957
    return [
        RibbonRow(key="lsh", title="LSH <b>16</b>", weights=weights, facts=(("keys looked at", "9"),), badges=("random draw",)),
        RibbonRow(key="low_rank", title="Linformer", refusal="It cannot be causal."),
        RibbonRow(key="favor", title="FAVOR+", weights=np.full(n, 0.31415), facts=(("overlap", "0.27"),), hidden=True),
        RibbonRow(key="newcomer", title="Newcomer", weights=np.linspace(0, 1, n)),
    ]


def test_ribbons_print_labels_facts_refusals_and_keep_what_is_hidden():
    tokens = [f" w{i}" for i in range(50)]
    tokens[25] = " <clock>"
    chart = ribbons_chart(
        RibbonsPicture(rows=ribbon_rows(50), tokens=tokens, query=49, marked=25), Theme(), title="One word", caption="Seen."
    )
    svg = chart_to_svg(chart)
    words = texts(svg)
    for word in (
        "One word",
        "LSH <b>16</b>",
        "random draw",
        "It cannot be causal.",
        "0.957",
        "9",
        "?",
        "“<clock>” (25)",
        "“w49” (49) looks back",
        "token position",
        "Seen.",
        "never looked at",
    ):
        assert word in words
    assert "0.27" not in chart.to_json()
    assert "0.314" not in words
    assert len(pictures(chart)) == 2 + 2 - 1


def test_a_thin_ribbon_keeps_its_one_bright_token():
    weights = np.full(8192, np.nan)
    weights[4321] = 0.9
    cells = strongest(weights, dots=640, query=8000, scale=weight_scale())
    assert cells.codes.shape == (1, 640)
    assert (cells.codes[0] < LEVELS).sum() == 1
    assert cells.codes[0, -1] == FUTURE
    assert cells.codes[0, 0] == NEVER


def test_ribbons_without_rows_or_with_a_mark_outside_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        ribbons_chart(RibbonsPicture(rows=[], tokens=["a"], query=0), Theme())
    with pytest.raises(ValueError, match="0 … 1"):
        ribbons_chart(RibbonsPicture(rows=ribbon_rows(2), tokens=["a", "b"], query=0, marked=2), Theme())


def test_every_format_is_a_file_of_its_kind():
    chart = attention_map_chart(MapPicture(values=causal(6)), Theme())
    assert chart_to_pdf(chart).startswith(b"%PDF-")
    once, twice = (struct.unpack_from(">II", chart_to_png(chart, scale=scale), 16) for scale in (1, 2))
    assert [abs(2 * small - large) <= 2 for small, large in zip(once, twice, strict=True)] == [True, True]
    assert image(chart, "svg").startswith(b"<svg")
    assert image(chart, "png")[:4] == b"\x89PNG"


def test_a_chart_with_many_rows_is_drawn():
    import pandas as pd

    frame = pd.DataFrame({"x": np.arange(6000), "y": np.arange(6000) % 7})
    assert "<svg" in chart_to_svg(alt.Chart(frame).mark_line().encode(x="x:Q", y="y:Q"))


@pytest.fixture
def listener():
    """A socket that lets a caller in: its own process, because the drawing engine keeps Python's lock while it works."""
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
        "c, _ = s.accept(); print('asked', flush=True); c.close()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_picture_from_elsewhere_is_refused_before_it_is_fetched(listener):
    import pandas as pd

    process, port = listener
    frame = pd.DataFrame({"url": [f"http://127.0.0.1:{port}/x.png"]})
    chart = alt.Chart(frame).mark_image(width=9, height=9).encode(x=alt.value(0), y=alt.value(0), url="url:N")
    with pytest.raises(ValueError, match="points to a picture outside of itself"):
        chart_to_png(chart)
    process.kill()
    assert process.stdout.read() == ""


def test_a_table_from_elsewhere_is_refused():
    with pytest.raises(ValueError, match="points to data outside of itself"):
        chart_to_svg(alt.Chart("http://127.0.0.1:9/x.csv").mark_point().encode(x="a:Q"))


def test_an_address_is_fine_as_a_word_and_no_character_breaks_a_file():
    import pandas as pd

    words = ["https://example.org/a?b=1&c=2", "a\x00b", "\x1b", "<b>"]
    chart = alt.Chart(pd.DataFrame({"w": words, "y": range(4)})).mark_text().encode(y="y:O", text="w:N")
    assert {words[0], "a□b", "□", "<b>"} <= set(texts(chart_to_svg(chart)))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [(lambda: image(object(), "svg"), "found object"), (lambda: chart_to_png(alt.Chart().mark_point(), scale=99), "0.5 to 8")],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_plotly_figure_without_kaleido_says_what_is_missing(monkeypatch):
    import plotly.graph_objects as go

    figure, found = go.Figure(), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "kaleido" else found(name, *rest))
    with pytest.raises(ValueError, match="kaleido"):
        image(figure, "svg")
