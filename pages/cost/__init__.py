"""Cost: when does cheaper attention pay?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Cost"), section=_("What it costs"), order=50)
