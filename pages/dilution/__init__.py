"""Dilution: why does attention thin out as the text grows?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Dilution"), section=_("Exact attention"), order=10)
