"""Strides: the weight found is that of the definition, and the page shows question, answer and picture."""

import pytest
import torch
from streamlit.testing.v1 import AppTest

from longattn_core import study
from longattn_core.contracts.sequence import exact_rows
from longattn_core.studies.strided.strides import stride_finding
from tests.support.paths import ROOT

GAUSSIAN = {"kind": "synthetic", "settings": {"kind": "gaussian", "n": 48, "causal": True}}


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_weight_found_is_the_exact_weight_on_the_stride(stride):
    result = study("strided.strides", source=GAUSSIAN, setting={"key": "strided", "dials": {"stride": stride}}).run()
    rows = exact_rows(result.study.sequence(), None, 0)[0]
    found = torch.stack([rows[i, torch.arange(i, -1, -stride)].sum() for i in range(48)]).mean()
    assert stride_finding(result).found == pytest.approx(float(found), abs=1e-6)
    assert (stride_finding(result).kind == "all") == (stride == 1)


def test_an_unmasked_sequence_is_refused_in_a_sentence():
    settings = GAUSSIAN["settings"] | {"causal": False}
    result = study("strided.strides", source=GAUSSIAN | {"settings": settings}).run()
    assert stride_finding(result).kind == "refused"
    assert result.words["refusal"].endswith(".")


def test_the_page_shows_question_answer_and_picture():
    app = AppTest.from_file(str(ROOT / "pages" / "strided" / "page.py"), default_timeout=120)
    app.query_params["source"], app.query_params["kind"] = "synthetic", "gaussian"
    app.run()
    assert not app.exception and not app.error
    assert app.title[0].value == "Is every few-th token enough?"
    assert "A token that looks back in strides of 8" in app.markdown[0].value
    assert app.get("vega_lite_chart")
