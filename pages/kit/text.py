"""Words that people read: prose from `assets/prose/<language>/`, short labels through gettext.

A page's prose is one Markdown file in sections, `## name`; a section may hold named places, `{share:.0%}`, that the
page fills with numbers of the run. Text that comes from a visitor is escaped before it stands in Markdown.
"""

from __future__ import annotations

import gettext
import json
import math
import re
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

ASSETS = Path(__file__).parents[2] / "assets"
LANGUAGE = "en"

_ = gettext.translation("longattn", ASSETS / "translations", languages=[LANGUAGE], fallback=True).gettext


@cache
def sections(page: str) -> dict[str, str]:
    """Every section of a page's prose, by its name."""
    text = (ASSETS / "prose" / LANGUAGE / f"{page}.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (\w+)\n", text, flags=re.M)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def prose(page: str, section: str, **numbers: Any) -> str:
    """A section of a page's prose with its named places filled. Raises: KeyError for an unknown section or place."""
    return Formatter().vformat(sections(page)[section], (), numbers)


@cache
def data(name: str) -> Any:
    """What an asset's JSON file holds, read once: `data("heads.json")`."""
    return json.loads((ASSETS / name).read_text(encoding="utf-8"))


def escaped(text: str) -> str:
    """Text of a visitor's, safe to stand inside Markdown and shown as it was typed."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥").replace("\x00", "␀")
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&\"'])", r"\\\1", shown)


def quoted(token: str) -> str:
    """A token inside a sentence: in italics, its leading space dropped; a space alone is named."""
    bare = token.strip(" ")
    return f"*{escaped(bare)}*" if bare else "a space"


def latex_count(number: float) -> str:
    """A number, rounded to a whole one, as LaTeX sets it, with thin spaces between thousands."""
    return f"{round(number):,}".replace(",", r"\,") if math.isfinite(number) else r"\infty"


def latex_percent(share: float) -> str:
    """A share in per cent, with one decimal, as LaTeX sets it."""
    return f"{share:.1%}".replace("%", r"\,\%")
