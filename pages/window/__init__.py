"""Windows, sinks and sparse patterns: what a query sees of what it wants, and what is lost."""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Window, sinks, sparse"), section=_("Chosen by place"), order=20)
