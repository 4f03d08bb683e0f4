"""Hierarchy: can a text be read at several distances at once?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Hierarchy"), section=_("Chosen by place"), order=22)
