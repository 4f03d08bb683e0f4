"""What a run has found so far, a line of JSON for each call as it ends, so that a run that was stopped goes on where it was.

The first line says of what: the same machine, packages, settings and code, or all is measured anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
READ = ("longattn_core/**/*.py", "tests/oracles/*.py", "benchmarks/*.py", "benchmarks/settings.toml")
"""The files that say what is measured and against what it is held."""


def fingerprint(*facts: object, root: Path = ROOT) -> str:
    """Of the code that is measured and of whatever else must be the same: another one for any difference."""
    found = hashlib.sha256(repr(facts).encode())
    for path in sorted({path for pattern in READ for path in root.glob(pattern)}):
        found.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return found.hexdigest()


class Journal:
    """Findings of a kind at a place (a cell's name, a length, threads), in the order in which they were noted."""

    def __init__(self, path: Path, of: str):
        """Read what the file holds, if it is `of` the same; otherwise the file begins anew at the first note."""
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
        """Whether an earlier run's findings were taken over."""
        return bool(self._found)

    def note(self, kind: str, at: Iterable[Hashable], finding: Any) -> None:
        """Keep a finding, which is on the disk when this returns."""
        place = tuple(at)
        with self.path.open("a" if self._begun else "w", encoding="utf-8") as file:
            if not self._begun:
                file.write(json.dumps(self._head) + "\n")
                self._begun = True
            file.write(json.dumps({"kind": kind, "at": place, "finding": finding}, ensure_ascii=False) + "\n")
        self._found.setdefault((kind, *place), []).append(finding)

    def found(self, kind: str, at: Iterable[Hashable]) -> list[Any]:
        """All findings of that kind there."""
        return self._found.get((kind, *at), [])

    def close(self) -> None:
        """The run is whole: the next one begins anew."""
        self.path.unlink(missing_ok=True)


def _lines(path: Path) -> list[Any]:
    """The lines up to the first that was cut off when the run was stopped, which is taken out of the file."""
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
