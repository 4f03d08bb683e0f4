"""The settings of a mechanism from cheap to exact, and what they cost."""

from __future__ import annotations

import itertools

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.testing.check import expect, expect_close, expect_sentence, of_sequences, of_setting
from longattn_core.testing.sequences import Given

BUDGETS = (1, 2, 65, 512, 65536)
"""Lengths for which budgets are asked."""


@of_sequences(
    *(Given(n=n, causal=causal, seed=n) for n in (1, 2, 63, 64, 65, 200) for causal in (True, False)), reads_refused=True
)
def exact_setting_is_exact_attention(setting: Mechanism, sequence: Sequence) -> None:
    """`exact_setting(n)` equals exact attention within `exact_tolerance`, or `no_exact_setting` says why there is none."""
    exact = setting.exact_setting(sequence.n)
    if exact is None:
        expect(setting.no_exact_setting is not None, "an exact setting, or the reason in `no_exact_setting`")
        expect_sentence(setting.no_exact_setting or "", "no_exact_setting")
        return
    expect(setting.no_exact_setting is None, "`no_exact_setting` to be None, as there is an exact setting")
    if exact.refuses(sequence) is not None:
        return
    attended, rows = exact.attend(sequence), exact_rows(sequence)
    for found, truth, name in ((attended.output, rows @ sequence.v, "output"), (attended.rows(), rows, "rows")):
        expect_close(found, truth, f"the {name} of {exact!r} to be exact", rtol=0, atol=exact.exact_tolerance)


@of_setting
def the_ladder_gets_no_worse(setting: Mechanism) -> None:
    """Along `ladder(n)` the error of the output falls or stays, in the median over seeds."""
    # What is fitted varies less between seeds than what is drawn, and takes longer.
    n, seeds = 96, range(20 if setting.parameters == "random draw" else 8)
    rungs = setting.ladder(n)
    expect(len(rungs) >= 1, "at least one setting")
    sequences = [Given(n=n, heads=1, seed=seed).sequence(rungs[0]) for seed in seeds]
    exact = [exact_rows(sequence) @ sequence.v for sequence in sequences]
    medians = []
    for rung in rungs:
        outputs = [rung.with_dials(seed=seed).attend(sequence).output for seed, sequence in zip(seeds, sequences, strict=True)]
        errors = [float((output - truth).norm() / truth.norm()) for output, truth in zip(outputs, exact, strict=True)]
        medians.append(sorted(errors)[len(seeds) // 2])
    falls = all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(medians))
    expect(falls, f"median errors that do not rise along the ladder, found {medians}")


@of_setting
def every_budget_is_a_setting(setting: Mechanism) -> None:
    """`with_budget` gives a setting whose dials are valid, for any budget from 1 to n."""
    for n in BUDGETS:
        for keys in sorted({1, 2, 3, 64, n // 3 + 1, n}):
            given = setting.with_budget(min(keys, n), n)
            valid = given == type(setting).model_validate(given.model_dump())
            expect(valid, f"with_budget({min(keys, n)}, {n}) to give valid dials, found {given!r}")


@of_setting
def the_cost_is_counted_and_grows_as_stated(setting: Mechanism) -> None:
    """The cost is positive, and from 512 to 1,024 tokens it grows no faster than `complexity` and `cubic` say."""
    costs = []
    for n in (512, 1024):
        cost = setting.attend(Given(n=n, heads=1).sequence(setting)).cost
        expect(cost.multiply_adds > 0, f"a count of multiply-adds, found {cost}")
        expect(cost.bytes_moved > 0, f"a count of bytes moved, found {cost}")
        expect(cost.bytes_peak >= 0, f"a count of bytes held, found {cost}")
        costs.append(cost.multiply_adds)
    # With groups of s tokens that a text fixes, n·(s + n/s) grows as n² once n is above s².
    square = "n²" in setting.complexity or "n/s" in setting.complexity
    most = 8.5 if setting.cubic else 4.2 if square else 3.0
    growth = costs[1] / costs[0]
    expect(growth < most, f"less than {most} times the multiply-adds for twice the tokens, found {growth:.2f} times")
