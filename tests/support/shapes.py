"""The checker of shapes and types that the tests run the core under."""

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function):
    """Beartype, but for the methods that return Self: it cannot resolve it outside a decorated class."""
    try:
        return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)
    except BeartypeDecorHintPep673Exception:
        return function
