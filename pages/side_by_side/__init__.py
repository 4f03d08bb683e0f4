"""Side by side: one token looks back over the text; what does each mechanism let it see?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Side by side"), section="", order=0)
