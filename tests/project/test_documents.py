"""The documents: their lines of Python run, their generated parts are up to date, and CONTRIBUTING.md can be followed."""

import re

import pytest

from longattn_core import MECHANISMS
from tests.guides.documents import DOCUMENTS, EXAMPLE, TABLES, brought_up_to_date, names
from tests.guides.example import files, project_with_the_example, run
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readmes_lines_of_python_run(capsys):
    (lines,) = re.findall(r"```python\n(.*?)```", text_of("README.md"), flags=re.S)
    exec(compile(lines, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "torch.Size([256, 64])" in said
    assert "favor" in said


def test_the_readme_lists_every_mechanism():
    listed = set(re.findall(r"^\| `(\w+)` \|", text_of("README.md"), flags=re.M))
    assert listed == set(MECHANISMS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_generated_parts_of_a_document_are_up_to_date(name):
    assert text_of(name) == brought_up_to_date(text_of(name)), (
        f"{name} is stale: run `make docs` (python -m tests.guides --write)"
    )


def test_every_table_and_every_file_of_the_example_stands_in_a_document_once():
    found = [name for document in DOCUMENTS for name in names(text_of(document))]
    assert sorted(found) == sorted([*TABLES, *(f"file {path}" for path in files())])


def test_a_stale_part_is_written_anew_and_nothing_else():
    text = text_of("README.md")
    stale = text.replace("| `exact` |", "| `inexact` |")
    assert stale != text
    assert brought_up_to_date(stale) == text
    with pytest.raises(KeyError, match="no such table"):
        brought_up_to_date("<!-- make docs: no such table -->\n<!-- end -->")


@pytest.mark.parametrize("path", [path for path in files() if path.endswith(".py")])
def test_a_file_of_the_example_passes_ruff_where_the_guide_puts_it(path):
    """In the example's folder the rules for tests hold, which are milder."""
    code = (EXAMPLE / path).read_text(encoding="utf-8")
    for command in (("ruff", "check", "--no-cache"), ("ruff", "format", "--check", "--no-cache")):
        status, printed = run(ROOT, *command, "--stdin-filename", path, "-", given=code)
        assert status == 0, printed


CHECKED = """
from longattn_core.mechanisms.strided import Strided
from longattn_core.testing import check_against_oracle, check_mechanism
from tests.oracles.strided import oracle
check_mechanism(Strided)
check_against_oracle(Strided, oracle)
"""
COMMON = (
    "tests/mechanisms/test_every_mechanism.py",
    "tests/pages/test_every_page.py",
    "tests/project/test_house.py",
    "tests/studies",
)


def test_the_guide_can_be_followed(tmp_path):
    """In a copy of the project the example's mechanism, study and page pass the commands of the guide."""
    project_with_the_example(tmp_path)
    status, printed = run(tmp_path, "python", "-c", CHECKED)
    assert status == 0, printed
    status, printed = run(tmp_path, "lint-imports", "--no-cache")
    assert status == 0, printed
    status, printed = run(tmp_path, "python", "-m", "pytest", "-q", "-n", "0", *COMMON, "-k", "strided")
    assert status == 0, printed
    assert int(re.findall(r"(\d+) passed", printed)[0]) > 60, printed
