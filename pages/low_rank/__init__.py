"""Low rank: how many numbers does an attention map really hold?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Low rank"), section=_("Compressed"), order=40)
