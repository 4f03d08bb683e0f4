"""The generated parts of the documents: tables from the registries, and the files of the guide's example.

A generated part stands between two comments, `<!-- make docs: NAME -->` and `<!-- end -->`. NAME is that of a table below, or
`file PATH` for a file of the example.
"""

import re
from collections import defaultdict
from pathlib import Path
from string import Formatter

from longattn_core import MECHANISMS
from pages.kit.input_bar import Inputs
from pages.kit.menu import entries
from pages.kit.text import sections

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
EXAMPLE = Path(__file__).parent / "strided"
"""The example's files, at the paths below this folder where they belong in the project."""

_PART = re.compile(r"(<!-- make docs: (?P<name>.+?) -->\n)(?P<content>.*?)(<!-- end -->)", flags=re.S)
_FENCES = {".py": "python", ".md": "markdown", ".json": "json"}


def brought_up_to_date(text):
    """The text of a document with its generated parts written anew. Raises: KeyError for a part of an unknown name."""
    return _PART.sub(lambda part: f"{part[1]}{content(part['name'])}{part[4]}", text)


def names(text):
    """The names of the generated parts of a document."""
    return [part["name"] for part in _PART.finditer(text)]


def content(name):
    """What stands in a generated part."""
    if name.startswith("file "):
        path = EXAMPLE / name.removeprefix("file ")
        return f"```{_FENCES[path.suffix]}\n{path.read_text(encoding='utf-8')}```\n"
    return TABLES[name]()


def mechanisms():
    """Every mechanism: key, title and idea, and the labels of its variants."""
    rows = [(f"`{key}`", f"{kind.title}: {kind.idea}", "; ".join(variants(kind)) or "–") for key, kind in MECHANISMS.items()]
    return table(("key", "mechanism", "variants"), rows)


def variants(kind):
    """The labels of the dial `variant`, where there is one."""
    field = kind.model_fields.get("variant")
    return [] if field is None else list(field.json_schema_extra["options"].values())


def code_of_mechanisms():
    """Every mechanism: its class, what its output costs, where its parameters come from, and its page."""
    rows = []
    for key, kind in MECHANISMS.items():
        origins = dict.fromkeys(setting.parameters for setting in kind.variants())
        page = entries()[key].title if key in entries() else "–"
        rows.append((f"`{key}`", f"`{kind.__name__}`", kind.complexity, "; ".join(origins), page))
    return table(("folder", "class", "cost of the output", "parameters of its variants", "page"), rows)


def pages():
    """Every page and its question, with the number of tokens that it opens with."""
    numbers = defaultdict(lambda: Inputs().n)
    questions = {name: Formatter().vformat(sections(name)["question"], (), numbers) for name in entries()}
    return table(("page", "question"), [(entry.title, questions[name]) for name, entry in entries().items()])


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


TABLES = {"mechanisms": mechanisms, "code of mechanisms": code_of_mechanisms, "pages": pages}
