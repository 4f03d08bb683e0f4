"""Heads and masks: who may look at whom?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Heads and masks"), section=_("Exact attention"), order=11)
