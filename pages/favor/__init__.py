"""Random features (FAVOR+): can softmax be drawn at random?"""

from pages.kit.menu import MenuEntry
from pages.kit.text import _

MENU = MenuEntry(title=_("Random features (FAVOR+)"), section=_("Compressed"), order=41)
