"""Studies by their keys: each found once, opened from older links and files, and asked for with public names only."""

import ast
import json
import subprocess
import sys

import pytest

import longattn_core
from longattn_core import STUDIES, load_study, study
from longattn_core.sequences.sources import SyntheticSource
from longattn_core.studies.base.former_keys import FORMER_KEYS
from longattn_core.studies.base.study import Setting, Study
from longattn_core.studies.registry import studies
from tests.support.paths import ROOT

OLDER = json.loads((ROOT / "tests" / "data" / "studies_2026_11.json").read_text(encoding="utf-8"))
"""Every study of November 2026 as a file with all its fields, and as a link."""
GAUSSIAN = {"kind": "synthetic", "settings": {"kind": "gaussian", "n": 16}}


def every_class(kind=Study):
    for below in kind.__subclasses__():
        yield below
        yield from every_class(below)


def made(key):
    return study(key, source=GAUSSIAN, **({"setting": {"key": "lsh"}} if key == "base.maps" else {}))


def test_every_study_is_found_under_a_key_of_its_folder_and_name():
    assert {key: kind.key for key, kind in STUDIES.items()} == {key: key for key in STUDIES}
    for key, kind in STUDIES.items():
        topic, name = key.split(".")
        assert kind.__module__.split(".")[2] == topic
        assert name.isidentifier() and name == name.lower()
    named = {kind for kind in every_class() if kind.__module__.startswith("longattn_core.studies.") and "key" in vars(kind)}
    assert named == set(STUDIES.values())


def test_two_studies_of_one_key_and_a_key_outside_of_its_folder_are_errors(monkeypatch):
    from longattn_core.studies.lsh.collision import LshCollision
    from longattn_core.studies.lsh.strips import LshStrips

    for key, said in ((LshCollision.key, "both claim"), ("window.strips", "<folder>.<name>")):
        monkeypatch.setattr(LshStrips, "key", key)
        with pytest.raises(RuntimeError, match=said):
            studies.__wrapped__()


@pytest.mark.parametrize("former", sorted(OLDER))
def test_what_an_older_version_wrote_opens(former):
    fields = {name: value for name, value in OLDER[former]["file"].items() if name != "study"}
    again = load_study(json.dumps(OLDER[former]["file"]))
    assert again.key == FORMER_KEYS[former]
    assert type(again).model_validate(fields) == again
    assert load_study(OLDER[former]["link"]) == again
    assert type(again).from_json(json.dumps(OLDER[former]["file"])) == again


def test_every_former_key_leads_to_a_study():
    assert set(FORMER_KEYS) == set(OLDER)
    assert set(FORMER_KEYS.values()) <= set(STUDIES)
    assert not set(FORMER_KEYS) & set(STUDIES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"study": "lsh.circles"}', "There is no study 'lsh.circles' in this version"),
        ('{"study": 3}', "does not say which one"),
        ("{", "not JSON"),
        ("[]", "damaged"),
        ("eJxx", "damaged"),
        (json.dumps({"study": "lsh_strips", "source": GAUSSIAN, "axes": 3}), "axes"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_sentence(text, said):
    with pytest.raises(ValueError, match=said) as refused:
        load_study(text)
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)


@pytest.mark.parametrize("key", sorted(studies()))
def test_the_lines_of_python_use_public_names_only_and_give_the_study(key):
    asked = made(key)
    lines = asked.to_python()
    tree = ast.parse(lines)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [(node.module, [name.name for name in node.names]) for node in imports] == [("longattn_core", ["study"])]
    assert {"study"} <= set(longattn_core.__all__)
    space = {}
    exec("\n".join(lines.splitlines()[:-1]), space)
    assert asked in space.values()
    assert lines.splitlines()[-1].startswith("result = ") and lines.endswith(".run()")


def test_a_study_is_built_from_values_or_dictionaries():
    source = SyntheticSource.model_validate(GAUSSIAN)
    plain = study("lsh.strips", source=GAUSSIAN, setting={"key": "lsh", "dials": {"rounds": 2}})
    assert plain == study("lsh.strips", source=source, setting=Setting(key="lsh", dials={"rounds": 2}))


@pytest.mark.parametrize(
    ("key", "fields", "said"),
    [
        ("lsh.circles", {}, "no study 'lsh.circles'"),
        ("lsh.strips", {"source": GAUSSIAN, "heat": 1}, "no field 'heat'"),
        ("lsh.strips", {"source": GAUSSIAN, "head": 99}, r"'head' cannot be 99.*0 … 63"),
    ],
)
def test_a_wrong_key_field_or_value_is_named(key, fields, said):
    with pytest.raises(ValueError, match=said):
        study(key, **fields)


def test_importing_the_core_imports_no_study():
    code = "import sys, longattn_core; print(any(name.startswith('longattn_core.studies') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
