"""Long texts and uploads, stored by the hash of their content: a link names the hash instead of carrying the content.

Source: ours. Contents are held in memory only; where there is no room, the least recently used ones are dropped first.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from threading import Lock

__all__ = ["Library", "UnknownContentError", "get", "put"]

CAPACITY_BYTES = 600_000_000


class UnknownContentError(ValueError):
    """No content is held under this hash; the message is the sentence that a person reads."""


class Library:
    """Contents by their SHA-256, at most `capacity` bytes together. Safe to use from several threads."""

    def __init__(self, *, capacity: int = CAPACITY_BYTES) -> None:
        """Start empty. Raises: ValueError when there is no capacity."""
        if capacity < 1:
            raise ValueError(f"a library needs room for at least one byte, found {capacity}")
        self._capacity = capacity
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def put(self, data: bytes) -> str:
        """Store a content and return its hash, 64 hexadecimal digits.

        Raises: ValueError when the content alone is larger than the library.
        """
        if len(data) > self._capacity:
            raise ValueError(f"the content holds {len(data):,} bytes; at most {self._capacity:,} can be kept")
        sha = hashlib.sha256(data).hexdigest()
        with self._lock:
            if sha not in self._held:
                self._held[sha] = data
                self._size += len(data)
            self._held.move_to_end(sha)
            while self._size > self._capacity:
                _, dropped = self._held.popitem(last=False)
                self._size -= len(dropped)
        return sha

    def get(self, sha: str) -> bytes:
        """The content with this hash. Raises: UnknownContentError, one sentence, when it is not held, or no longer."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha):
            raise UnknownContentError(f"A content is named by 64 hexadecimal digits, found {sha[:80]!r}.")
        with self._lock:
            if sha not in self._held:
                raise UnknownContentError(
                    f"The content {sha[:12]}… is not on this computer: long texts and uploads stay "
                    "where they were given; give the text or the file again."
                )
            self._held.move_to_end(sha)
            return self._held[sha]

    def __contains__(self, sha: str) -> bool:
        """Whether the content is held now."""
        with self._lock:
            return sha in self._held

    @property
    def size(self) -> int:
        """Bytes held."""
        with self._lock:
            return self._size


_library = Library()


def put(data: bytes) -> str:
    """Store a content in this process's library and return its hash; see `Library.put`."""
    return _library.put(data)


def get(sha: str) -> bytes:
    """The content with this hash from this process's library; see `Library.get`."""
    return _library.get(sha)
