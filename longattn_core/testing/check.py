"""One check: a named function that raises AssertionError where a mechanism breaks a rule, and the message that it fails with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor
from torch.testing import assert_close

from longattn_core.contracts.mechanism import Attended, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.testing.sequences import Given, described

Scope: TypeAlias = Literal["class", "setting", "sequence"]
"""What the function of a check is called with: a class; one of its settings; or a setting and a sequence."""


class CheckError(AssertionError):
    """A check that failed: `check` is its name, the message says for which setting and sequence, and what was expected."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


@dataclass(frozen=True, kw_only=True)
class Check:
    """A rule that every mechanism keeps.

    Calling it with a class checks the class, or each setting of `variants()`; calling it with a setting checks that one.
    """

    name: str
    rule: str
    scope: Scope
    function: Callable[..., None]
    given: tuple[Given, ...] = ()
    reads_refused: bool = False
    """Whether the function is also called with sequences that the setting refuses."""

    def __str__(self) -> str:
        """The name, so that pytest can take it for the test's."""
        return self.name

    def subjects(self, kind: type[Mechanism]) -> tuple[type[Mechanism] | Mechanism, ...]:
        """What is checked of a class: itself, or its variants."""
        return (kind,) if self.scope == "class" else kind.variants()

    def __call__(self, subject: type[Mechanism] | Mechanism, *, sequences: Iterable[Sequence] | None = None) -> int:
        """Check a class or one setting. Returns how often the function was called: 0 where every sequence was refused.

        `sequences` are read in place of the built-in ones. Raises: CheckError, an AssertionError, for the first failure.
        """
        chosen = None if sequences is None else tuple(sequences)
        if isinstance(subject, type):
            return sum(self._of(part, chosen) for part in self.subjects(subject))
        return self._of(subject, chosen)

    def _of(self, subject: type[Mechanism] | Mechanism, sequences: tuple[Sequence, ...] | None) -> int:
        if self.scope == "class":
            self._call(subject if isinstance(subject, type) else type(subject))
            return 1
        assert isinstance(subject, Mechanism)
        if self.scope == "setting":
            self._call(subject)
            return 1
        calls = 0
        for sequence in (given.sequence(subject) for given in self.given) if sequences is None else sequences:
            if self.reads_refused or subject.refuses(sequence) is None:
                self._call(subject, sequence)
                calls += 1
        return calls

    def _call(self, subject: type[Mechanism] | Mechanism, *sequence: Sequence) -> None:
        try:
            self.function(subject, *sequence)
        except Exception as error:
            found = str(error) if isinstance(error, AssertionError) else f"it raised {type(error).__name__}: {error}"
            shown = subject.__name__ if isinstance(subject, type) else repr(subject)
            place = "".join(f"\n  reading {described(part)}" for part in sequence)
            raise CheckError(self.name, f"{self.name}: {self.rule}\n  {shown}{place}\n  {found}") from error


def of_class(function: Callable[[type[Mechanism]], None]) -> Check:
    """A check that is called with the class."""
    return _check(function, "class")


def of_setting(function: Callable[[Mechanism], None]) -> Check:
    """A check that is called with a setting and makes its own sequences."""
    return _check(function, "setting")


def of_sequences(*given: Given, reads_refused: bool = False) -> Callable[[Callable[[Mechanism, Sequence], None]], Check]:
    """A check that is called with a setting and each of these sequences that the setting reads."""
    return lambda function: _check(function, "sequence", given, reads_refused)


def _check(function: Callable[..., None], scope: Scope, given: tuple[Given, ...] = (), reads_refused: bool = False) -> Check:
    rule = (function.__doc__ or "").partition("\n")[0]
    return Check(name=function.__name__, rule=rule, scope=scope, function=function, given=given, reads_refused=reads_refused)


def expect(holds: bool, expected: str) -> None:
    """Raise AssertionError with what was expected, unless it holds."""
    if not holds:
        raise AssertionError(f"expected {expected}")


def expect_close(actual: Tensor, expected: Tensor, what: str, *, rtol: float, atol: float) -> None:
    """Raise AssertionError unless the tensors agree; `what` says in words what should be equal to what."""
    assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda difference: f"expected {what}\n{difference}")


def expect_sentence(sentence: str, what: str) -> None:
    """Raise AssertionError unless a person can read it as one sentence."""
    expect(10 < len(sentence) < 400 and sentence.endswith("."), f"{what} to be a full sentence, found {sentence!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A sequence read by a setting, with all rows of its map and all pairs that it keeps."""

    attended: Attended
    rows: Float[Tensor, "h n n"]
    kept: Bool[Tensor, "h n n"]


@lru_cache(maxsize=64)
def reading(setting: Mechanism, sequence: Sequence) -> Reading:
    """Read a sequence, or take the reading of an earlier check. Memory: 64 maps of n × n."""
    attended = setting.attend(sequence)
    return Reading(attended=attended, rows=attended.rows(), kept=attended.kept())


def implied_output(attended: Attended, rows: Float[Tensor, "h n n"]) -> Float[Tensor, "h n e"]:
    """The output that the rows imply: `rows @ v + offset`."""
    output = rows @ attended.sequence.v
    return output if attended.offset is None else output + attended.offset
