"""The house: every topic has one shape, the kit knows no topic, and the documents name files that exist."""

import ast
import io
import re
import tokenize

import pytest

from longattn_core import MECHANISMS
from pages.kit.menu import entries
from tests.support.paths import ROOT

TOPICS = sorted(entries())
VIEWS = ("hero", "step", "measure", "theory")
HOME = next(iter(entries()))


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: [argument.arg for argument in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_is_a_folder_of_five_files_whose_functions_have_the_files_names(topic):
    folder = ROOT / "pages" / topic
    there = [view for view in VIEWS if (folder / f"{view}.py").exists()]
    # The home page compares all mechanisms: how each works, and its formulas, stand on the page of its own.
    assert there == (["hero", "measure"] if topic == HOME else list(VIEWS))
    for view in there:
        assert functions(folder / f"{view}.py")[view][0] == "page", view
    assert functions(folder / "page.py")["body"] == ["page"]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_is_composed_and_computes_nothing(topic):
    """What is drawn or computed stands in the files beside it."""
    tree = ast.parse((ROOT / "pages" / topic / "page.py").read_text(encoding="utf-8"))
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)] == ["body"]
    modules = {node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= {"__future__", "longattn_core", "pages", "typing", "copy"}
    shown = (ROOT / "assets" / "prose" / "en" / f"{topic}.md").exists()
    assert shown


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_its_studies_figures_and_tests_under_the_same_key(topic):
    assert (ROOT / "longattn_core" / "studies" / topic / "__init__.py").exists()
    figures = ROOT / "longattn_core" / "charts" / "figures"
    # The home page's two figures have the names of what they show.
    assert all((figures / f"{name}.py").exists() for name in (("ribbons", "frontier") if topic == HOME else (topic,)))
    if topic != HOME:
        assert (ROOT / "tests" / "studies" / f"test_{topic}.py").exists()


@pytest.mark.parametrize("key", sorted(MECHANISMS))
def test_a_mechanism_is_a_package_with_its_class_its_map_its_oracle_and_its_test(key):
    folder = ROOT / "longattn_core" / "mechanisms" / key
    assert MECHANISMS[key].__module__ == f"longattn_core.mechanisms.{key}.mechanism"
    assert (folder / "mechanism.py").exists()
    handed = ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body
    assert MECHANISMS[key].__name__ in {name.name for node in handed if isinstance(node, ast.ImportFrom) for name in node.names}
    assert (ROOT / "tests" / "oracles" / f"{key}.py").exists()


ALSO_WORDS = {"cost", "heads", "memory", "window"}
"""Keys of topics that are words for other things too: the heads of a layer, the window of a map."""


def test_the_kit_names_no_topic():
    named = []
    for path in sorted((ROOT / "pages" / "kit").rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            text = token.string.strip("'\"")
            if token.type == tokenize.STRING and text.partition(".")[0] in set(TOPICS) - ALSO_WORDS:
                named.append(f"{path.relative_to(ROOT)}:{token.start[0]} {text}")
    assert named == []


DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "tests/README.md")
BASES = ("", "longattn_core/", "longattn_core/mechanisms/", "longattn_core/studies/", "pages/", "tests/")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_a_document_names_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w.]+(?:/[\w.]+)+/?)`", text)) | set(re.findall(r"\]\((?!https?:)([\w./-]+)\)", text))
    missing = [path for path in sorted(paths) if not any((ROOT / base / path).exists() for base in BASES)]
    assert missing == []
