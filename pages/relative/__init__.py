"""Positions: how does a model know how far apart two tokens are?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Positions"), section=_("Exact attention"), order=12)
