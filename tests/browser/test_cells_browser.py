"""The cells that the components' scripts draw are those that Python pools: the same edges, computed in JavaScript."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from longattn_core.contracts.indexing import edges

pytestmark = pytest.mark.browser
SCRIPTS = Path(__file__).resolve().parents[2] / "assets" / "components"

CASES = [
    (start, start + span, cells) for start in (0, 7) for span in (1, 2, 5, 37, 64, 511, 513) for cells in (1, 2, 3, 36, 64, 512)
]


@pytest.fixture
def blank(chromium):
    page = chromium.new_page()
    yield page
    page.close()


def script(name, pattern):
    """The part of a component's script that matches."""
    found = re.search(pattern, (SCRIPTS / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


def test_the_cells_of_the_map_and_the_cell_of_a_token(blank):
    layer = script("attention_map.js", r"^class Layer \{.*?^\}")
    found = blank.evaluate(
        f"""cases => {{
            {layer}
            return cases.map(([start, stop, cells]) => {{
                const count = Math.min(cells, stop - start);
                const layer = new Layer({{ window: [start, stop, start, stop], shape: [count, count] }}, {{ codes: [] }});
                return ['row', 'col'].map(axis => [
                    Array.from({{ length: count }}, (_, cell) => layer.tokensOf(cell, axis)),
                    Array.from({{ length: stop - start }}, (_, i) => layer.cellOf(start + i, axis)),
                ]);
            }});
        }}""",
        CASES,
    )
    for case, axes in zip(CASES, found, strict=True):
        cells = list(pairwise(edges(*case)))
        for spans, cell_of in axes:
            assert [tuple(span) for span in spans] == cells, case
            assert cell_of == [cell for cell, (low, high) in enumerate(cells) for _ in range(low, high)], case


def test_the_tokens_of_a_ribbons_dot(blank):
    """A ribbon with more dots than tokens draws a token on several dots; up to then its dots are cells."""
    span = script("ribbons.js", r"^  span\(i, dots\) \{.*?^  \}")
    cases = [(stop, cells) for start, stop, cells in CASES if start == 0 and cells <= stop]
    found = blank.evaluate(
        f"""cases => {{
            const of = n => ({{ head: {{ n }}, {span} }});
            return cases.map(([n, dots]) => Array.from({{ length: dots }}, (_, i) => of(n).span(i, dots)));
        }}""",
        cases,
    )
    for (n, dots), spans in zip(cases, found, strict=True):
        assert [tuple(span) for span in spans] == list(pairwise(edges(0, n, dots)))
