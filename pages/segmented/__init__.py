"""Segments: what is lost at a cut, where to cut, and what may cross."""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Segments"), section=_("Chosen by place"), order=21)
