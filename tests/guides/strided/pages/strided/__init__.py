"""Strides: what a query finds that looks back in equal steps."""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Strides"), section=_("Chosen by place"), order=24)
