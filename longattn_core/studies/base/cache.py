"""A small store of the last few results, each computed once even when many ask for it at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlightCache(Generic[T]):
    """Keeps the `size` results that were used last; whoever asks while one is being computed waits for it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._making: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, name: str, make: Callable[[], T]) -> T:
        """The result of this name, made now if it is not kept. What `make` raises is raised, and nothing is kept."""
        with self._guard:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
            making = self._making.setdefault(name, threading.Lock())
        with making:
            with self._guard:
                if name in self._kept:
                    return self._kept[name]
            try:
                made = make()
                with self._guard:
                    self._kept[name] = made
                    while len(self._kept) > self._size:
                        self._kept.popitem(last=False)
            finally:
                with self._guard:
                    self._making.pop(name, None)
            return made

    def known(self, name: str) -> T | None:
        """The result of this name if it is kept; nothing is made."""
        with self._guard:
            return self._kept.get(name)
