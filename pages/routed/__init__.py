"""Routing: who should handle this token?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Routing"), section=_("Chosen by content"), order=31)
