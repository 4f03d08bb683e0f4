"""Hashing: similar tokens fall into the same bucket, and a query looks only there."""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Hashing (LSH)"), section=_("Chosen by content"), order=30)
