"""What the documents show is run: the README's lines of Python and the mechanism of CONTRIBUTING.md."""

import re

import pytest
from torch.testing import assert_close

from longattn_core import MECHANISMS
from longattn_core.contracts.sequence import exact_rows
from tests.support.paths import ROOT
from tests.support.sequences import gaussian


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.S)


def test_the_readmes_lines_of_python_run(capsys):
    (lines,) = blocks("README.md")
    exec(compile(lines, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "torch.Size([256, 64])" in said
    assert "favor" in said


def test_the_readme_lists_every_mechanism():
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M))
    assert listed == set(MECHANISMS)


@pytest.fixture(scope="module")
def strided(tmp_path_factory):
    import importlib.util
    import sys

    (code,) = blocks("CONTRIBUTING.md")
    path = tmp_path_factory.mktemp("plugin") / "strided.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("strided", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["strided"] = module
    spec.loader.exec_module(module)
    yield module.Strided
    del sys.modules["strided"]


@pytest.mark.parametrize("padding", ["none", "left", "holes"])
def test_the_mechanism_of_the_guide_works(strided, padding):
    sequence = gaussian(65, padding=padding)
    attended = strided(stride=4).attend(sequence)
    assert_close(attended.rows() @ sequence.v, attended.output, rtol=1e-12, atol=1e-12)
    exact = strided().exact_setting(65).attend(sequence)
    assert_close(exact.rows(), exact_rows(sequence), rtol=0, atol=1e-12)
    assert attended.explain(0, 64, 60).kept == bool(sequence.real[60])
    assert strided().refuses(gaussian(9, causal=False)).endswith(".")
