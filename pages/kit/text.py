"""Words that people read: prose from `assets/prose/<language>/`, short labels through gettext.

A page's prose is one Markdown file of sections, `## name`. A section may hold placeholders, `{share:.0%}`, which the page fills
with numbers of the run. Text that comes from a visitor is escaped before it is put into Markdown.
"""

from __future__ import annotations

import gettext
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parents[2] / "assets"
LANGUAGE = "en"

_translation = gettext.translation("longattn", ASSETS / "translations", languages=[LANGUAGE], fallback=True)
_ = _translation.gettext
ngettext = _translation.ngettext
"""Words that depend on a count: `ngettext("one sink", "{count} sinks", n).format(count=n)`."""


@cache
def sections(page: str) -> dict[str, str]:
    """Every section of a page's prose, by its name."""
    text = (ASSETS / "prose" / LANGUAGE / f"{page}.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (\w+)\n", text, flags=re.M)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def prose(page: str, section: str, **numbers: Any) -> str:
    """A section of a page's prose with its placeholders filled. Raises: KeyError for an unknown section or placeholder."""
    return sections(page)[section].format_map(numbers)


@cache
def data(name: str) -> Any:
    """The content of an asset's JSON file, read once: `data("heads.json")`."""
    return json.loads((ASSETS / name).read_text(encoding="utf-8"))


def escaped(text: str) -> str:
    """A visitor's text, safe inside Markdown and shown as it was typed."""
    shown = text.replace("\n", "⏎").replace("\t", "⇥").replace("\x00", "␀")
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:&\"'])", r"\\\1", shown)


def quoted(token: str) -> str:
    """A token inside a sentence: in italics, without spaces around it; a token of spaces alone is named."""
    bare = token.strip(" ")
    return f"*{escaped(bare)}*" if bare else "a space"


def latex_count(number: float) -> str:
    """A number, rounded to a whole one, as LaTeX sets it, with thin spaces between thousands."""
    return f"{round(number):,}".replace(",", r"\,") if math.isfinite(number) else r"\infty"


def latex_percent(share: float) -> str:
    """A share in per cent, with one decimal, as LaTeX sets it."""
    return f"{share:.1%}".replace("%", r"\,\%")


def token_count(count: int) -> str:
    """A number of tokens inside a sentence: "one token", "1,024 tokens"."""
    return ngettext("one token", "{count:,} tokens", count).format(count=count)
