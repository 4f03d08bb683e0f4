"""The journal of a run: one line of JSON for each finished call, from which a run that was stopped continues.

The first line is a fingerprint of machine, packages, settings and code. If one of them has changed, everything is measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
READ = ("longattn_core/**/*.py", "tests/oracles/*.py", "benchmarks/*.py", "benchmarks/settings.toml")
"""The files that determine what is measured, and with what it is compared."""


def fingerprint(*facts: object, root: Path = ROOT) -> str:
    """A hash of the code that is measured and of all other `facts` that must be the same."""
    digest = hashlib.sha256(repr(facts).encode())
    for path in sorted({path for pattern in READ for path in root.glob(pattern)}):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


class Journal:
    """Findings by their kind and place (a cell's name, a length, a number of threads), in the order in which they were noted."""

    def __init__(self, path: Path, of: str):
        """Read the file if its fingerprint is `of`; otherwise the first note replaces the file."""
        self.path = path
        self._found: dict[tuple[Hashable, ...], list[Any]] = {}
        first, *rest = _lines(path) or [None]
        self._begun = first == {"of": of}
        self._head = {"of": of}
        if self._begun:
            for line in rest:
                self._found.setdefault((line["kind"], *line["at"]), []).append(line["finding"])

    @property
    def goes_on(self) -> bool:
        """Whether it continues an earlier run."""
        return bool(self._found)

    def note(self, kind: str, at: Iterable[Hashable], finding: Any) -> None:
        """Add a finding; it is on disk when this returns."""
        place = tuple(at)
        with self.path.open("a" if self._begun else "w", encoding="utf-8") as file:
            if not self._begun:
                file.write(json.dumps(self._head) + "\n")
                self._begun = True
            file.write(json.dumps({"kind": kind, "at": place, "finding": finding}, ensure_ascii=False) + "\n")
        self._found.setdefault((kind, *place), []).append(finding)

    def found(self, kind: str, at: Iterable[Hashable]) -> list[Any]:
        """All findings of this kind at this place."""
        return self._found.get((kind, *at), [])

    def close(self) -> None:
        """Delete the journal of a complete run: the next run measures everything again."""
        self.path.unlink(missing_ok=True)


def _lines(path: Path) -> list[Any]:
    """All whole lines. A last line that was cut off when the run was stopped is removed from the file."""
    if not path.exists():
        return []
    whole = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            whole.append((line, json.loads(line)))
        except ValueError:
            break
        if not line.endswith(b"\n"):
            whole.pop()
            break
    path.write_bytes(b"".join(line for line, _ in whole))
    return [content for _, content in whole]
