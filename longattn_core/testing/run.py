"""Run the common checks on a mechanism, and compare it with an independent implementation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.testing import causality, facts, limits, output, precision, views
from longattn_core.testing.check import Check, CheckError, expect, expect_close, of_sequences, reading
from longattn_core.testing.sequences import PADDINGS, Given

Oracle: TypeAlias = Callable[[Any, Sequence, Any], tuple[Float[Tensor, "h n e"], Float[Tensor, "h n n"], Bool[Tensor, "h n n"]]]
"""An independent implementation: `oracle(setting, sequence, trace)` gives output, rows and kept pairs in float64."""


def checks() -> tuple[Check, ...]:
    """All checks, in the order in which `check_mechanism` runs them."""
    modules = (facts, output, precision, causality, views, limits)
    return tuple(part for module in modules for part in vars(module).values() if isinstance(part, Check))


def check_mechanism(kind: type[Mechanism], *, sequences: Iterable[Sequence] | None = None) -> None:
    """Run all common checks on a mechanism and on each of its `variants()`. Takes some seconds a variant.

    `sequences` are read in place of the built-in Gaussian ones, in float64. Give short ones: checks hold n × n weights.
    The ladder, the budgets and the cost are checked on built-in sequences all the same.

    Raises:
        TypeError: the class is abstract.
        ValueError: a variant refuses all of `sequences`, so that nothing would be checked.
        AssertionError: some checks failed; for each, the message names it, the setting, the sequence, and what was expected.
    """
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise TypeError(f"{kind.__name__} is abstract, it does not define {missing}")
    own = None if sequences is None else tuple(sequence.to(dtype=torch.float64) for sequence in sequences)
    for setting in kind.variants() if own is not None else ():
        if all(setting.refuses(sequence) is not None for sequence in own or ()):
            raise ValueError(f"{setting!r} refuses every one of the {len(own or ())} given sequences")
    failures = []
    for check in checks():
        for subject in check.subjects(kind):
            try:
                check(subject, sequences=own)
            except CheckError as failure:
                failures.append(failure)
    reading.cache_clear()
    if failures:
        names = list(dict.fromkeys(failure.check for failure in failures))
        head = f"{kind.__name__} fails {len(names)} of {len(checks())} checks: {', '.join(names)}"
        raise AssertionError("\n\n".join([head, *map(str, failures)])) from failures[0]


def check_against_oracle(
    subject: type[Mechanism] | Mechanism, oracle: Oracle, *, sequences: Iterable[Sequence] | None = None
) -> None:
    """Compare output, rows and kept pairs with an independent implementation from the definition.

    `subject` is a class, of which all `variants()` are compared, or one setting. `sequences` replace the built-in ones.
    Raises: AssertionError, with the setting, the sequence and the difference.
    """

    def agrees_with_the_oracle(setting: Mechanism, sequence: Sequence) -> None:
        """Output, rows and kept pairs equal those of an independent implementation."""
        attended = setting.attend(sequence)
        expected_output, expected_rows, expected_kept = oracle(setting, sequence, attended.trace)
        expect_close(attended.output, expected_output, "the output to be the oracle's", rtol=1e-8, atol=1e-9)
        expect_close(attended.rows(), expected_rows, "the rows to be the oracle's", rtol=1e-8, atol=1e-9)
        expect(torch.equal(attended.kept(), expected_kept), "the kept pairs to be the oracle's")

    of_sequences(*ORACLE_SEQUENCES)(agrees_with_the_oracle)(subject, sequences=sequences)


ORACLE_SEQUENCES = tuple(
    Given(n=n, causal=causal, padding=padding, seed=n) for n in (1, 2, 17, 65) for causal in (True, False) for padding in PADDINGS
)
