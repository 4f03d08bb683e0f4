"""Memory: what is carried from segment to segment, and how much of exact attention it still reaches."""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Memory"), section=_("Chosen by place"), order=23)
