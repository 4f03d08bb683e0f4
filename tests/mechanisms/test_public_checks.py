"""The public checks themselves: a mechanism that is broken in one place fails the check that is about it, and no other."""

from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar

import pytest
import torch

from longattn_core import Cost, Mechanism
from longattn_core.contracts.mechanism import Explanation, Family, ReadCount, Reason, dial
from longattn_core.numerics.maps.listed import ScoredMap
from longattn_core.testing import CheckError, check_against_oracle, check_mechanism, checks, gaussian
from tests.oracles.exact import oracle as exact_oracle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_shapes_unchecked")]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainMap(ScoredMap):
    def _scores(self, queries, heads):
        return self.mechanism.factor(self.sequence) * self.sequence.q[heads][:, queries] @ self.sequence.k[heads].mT

    def _explained(self, head, query, key, kept, exact, weight):
        text = "Every key is read."
        return Explanation(kept=kept, exact=exact, weight=weight, reason=Reason.ITSELF, facts={}, text=text)


class Plain(Mechanism):
    """Exact attention at a temperature: it passes every check."""

    key: ClassVar[str] = "plain"
    title: ClassVar[str] = "Plain"
    idea: ClassVar[str] = "Weigh every key by its score."
    paper: ClassVar[str] = "arXiv:1706.03762"
    complexity: ClassVar[str] = "n²·d"
    family: ClassVar[Family] = "reference"
    order: ClassVar[int] = 99
    map_of: ClassVar[type[PlainMap]] = PlainMap

    temperature: float = dial(1.5, title="Temperature", ge=0.5, le=2, help="Scores are divided by it.")

    def factor(self, sequence):
        return sequence.d**-0.5 / self.temperature

    def _attend(self, sequence):
        cost = Cost(multiply_adds=sequence.n**2, bytes_moved=sequence.n, bytes_peak=0)
        empty = self.map_of(mechanism=self, sequence=sequence, output=sequence.v, trace=None, cost=cost)
        return replace(empty, output=empty.rows() @ sequence.v)

    def exact_setting(self, n):
        return self.with_dials(temperature=1.0)

    def ladder(self, n):
        return tuple(self.with_dials(temperature=t) for t in (2.0, 1.2, 1.0))

    def with_budget(self, keys, n):
        return self


class NeverExact(Plain):
    """Plain, without an exact setting: what is slightly wrong is not compared with exact attention."""

    @property
    def no_exact_setting(self):
        return "It is broken on purpose."

    def exact_setting(self, n):
        return None


def mapped(base=Plain, **methods):
    """A mechanism of which some methods of the map are others."""

    class Broken(base):
        map_of: ClassVar[type[PlainMap]] = dataclass(frozen=True, kw_only=True, eq=False)(type("BrokenMap", (PlainMap,), methods))

    return Broken


def made(base=Plain, /, **members):
    """A mechanism of which some methods or properties are others."""
    return type("Broken", (base,), {"__module__": __name__, **members})


def another_output(change, base=Plain):
    """A mechanism whose output is changed after it was computed."""

    def _attend(self, sequence):
        attended = Plain._attend(self, sequence)
        return replace(attended, output=change(attended.output))

    return made(base, _attend=_attend)


class NoSentence(Plain):
    idea: ClassVar[str] = "weigh every key"


class DialWithoutHelp(Plain):
    width: int = dial(4, title="Width", ge=1, le=9)


def infinite_when_cold(self, sequence):
    attended = Plain._attend(self, sequence)
    return replace(attended, output=attended.output * float("nan")) if self.temperature == 0.5 else attended


def refuses_130(self, sequence):
    return "It cannot read 130 tokens." if sequence.n == 130 else None


def refuses_63(self, sequence):
    return "No" if sequence.n == 63 else None


def kept_with_the_future(self, queries, heads):
    pairs = self.sequence.real[queries, None] & self.sequence.real
    return pairs.expand(len(heads), -1, -1)


def kept_without_the_first_key(self, queries, heads):
    kept = PlainMap._kept(self, queries, heads).clone()
    kept[:, queries > 0, 0] = False
    return kept


def rows_of_padding(self, queries, heads):
    rows = PlainMap._rows(self, queries, heads).clone()
    padded = queries[~self.sequence.real[queries]]
    if self.sequence.n > 40:
        rows[:, ~self.sequence.real[queries], padded] = 1
    return rows


def rows_that_sum_to_less(self, queries, heads):
    return PlainMap._rows(self, queries, heads) * (1 - 5e-10)


def rows_in_double(self, sequence):
    attended = Plain._attend(self, sequence)
    return replace(attended, output=attended.output.double())


def factor_with_heads(self, sequence):
    return Plain.factor(self, sequence) * (1 + 1e-6 * sequence.h)


def scores_with_the_future(self, queries, heads):
    return PlainMap._scores(self, queries, heads) * (1 + 1e-3 * self.sequence.k[heads].mean((1, 2), keepdim=True).tanh())


def rows_and_nothing_kept(self, queries, heads):
    rows = self._rows(queries, heads)
    return rows, torch.zeros_like(rows, dtype=torch.bool)


def pooled_too_high(self, rows, columns, reduce, heads):
    return 1.001 * PlainMap._pooled(self, rows, columns, reduce, heads)


def explained_in_half_a_sentence(self, *pair):
    return replace(PlainMap._explained(self, *pair), text="Every key")


def one_key_more(self, head, query):
    return ReadCount(count=PlainMap._read_count(self, head, query).count + 1, unit="keys")


def costs_nothing(self, sequence):
    return replace(Plain._attend(self, sequence), cost=Cost(multiply_adds=0, bytes_moved=1, bytes_peak=0))


RUNS = count()

BROKEN = {
    "class_facts_are_stated": NoSentence,
    "dials_have_titles_help_and_bounds": DialWithoutHelp,
    "variants_are_settings_of_the_class": made(showcase=classmethod(lambda cls: ())),
    "any_dials_give_a_map_or_a_sentence": made(_attend=infinite_when_cold),
    "label_fits_a_chart": made(label=property(lambda self: "A label of more than thirty-four characters")),
    "a_causal_or_an_unmasked_sequence_is_read": made(refuses=refuses_130),
    "deviations_are_declared_in_sentences": made(not_stochastic=property(lambda self: "no")),
    "refusals_are_sentences": made(refuses=refuses_63),
    "rows_times_values_are_the_output": another_output(lambda output: output * (1 + 1e-8), NeverExact),
    "hidden_pairs_are_not_kept": mapped(_kept=kept_with_the_future),
    "dropped_pairs_have_no_weight": mapped(_kept=kept_without_the_first_key),
    "padding_takes_no_part": mapped(_rows=rows_of_padding),
    "rows_sum_to_one": mapped(NeverExact, _rows=rows_that_sum_to_less),
    "float32_agrees_with_float64": made(_attend=rows_in_double),
    "the_seed_decides_every_draw": another_output(lambda output: output * (1 + 1e-14 * next(RUNS))),
    "each_head_is_computed_alone": made(NeverExact, factor=factor_with_heads),
    "gradients_reach_queries_keys_and_values": another_output(torch.Tensor.detach),
    "the_past_does_not_depend_on_the_future": mapped(NeverExact, _scores=scores_with_the_future),
    "parts_of_the_map_are_parts_of_the_whole": mapped(_rows_and_kept=rows_and_nothing_kept),
    "pooled_maps_are_pooled_rows": mapped(_pooled=pooled_too_high),
    "explanations_say_what_the_map_says": mapped(_explained=explained_in_half_a_sentence),
    "read_counts_are_those_of_the_kept_pairs": mapped(_read_count=one_key_more),
    "exact_setting_is_exact_attention": made(exact_setting=lambda self, n: self),
    "the_ladder_gets_no_worse": made(ladder=lambda self, n: Plain.ladder(self, n)[::-1]),
    "every_budget_is_a_setting": made(with_budget=lambda self, keys, n: self.model_copy(update={"temperature": 9.0})),
    "the_cost_is_counted_and_grows_as_stated": made(_attend=costs_nothing),
}


def test_a_mechanism_that_is_right_passes():
    check_mechanism(Plain)
    check_mechanism(NeverExact)


def test_each_check_has_a_mechanism_that_breaks_it():
    assert set(BROKEN) == {check.name for check in checks()}
    assert all(check.rule.endswith(".") for check in checks())


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_is_broken_fails_the_check_that_is_about_it_alone(name):
    failures = []
    for check in checks():
        try:
            check(BROKEN[name])
        except CheckError as failure:
            failures.append(failure)
    assert [failure.check for failure in failures] == [name]
    assert str(failures[0]).startswith(f"{name}: ")


def test_a_failure_names_check_setting_sequence_and_what_was_expected():
    with pytest.raises(AssertionError, match=r"(?s)^Broken fails 1 of \d+ checks: hidden_pairs_are_not_kept") as raised:
        check_mechanism(BROKEN["hidden_pairs_are_not_kept"])
    message = str(raised.value)
    assert "Broken(seed=0, temperature=1.5)" in message
    assert "reading 2 tokens, 2 heads, d = 8, e = 6, float64, causal, no padding, calibrated" in message
    assert "expected no pair to be kept that the mask hides" in message


def test_what_an_exception_says_is_said():
    def broken(self, sequence):
        raise RuntimeError("out of luck")

    with pytest.raises(CheckError, match="it raised RuntimeError: out of luck"):
        next(check for check in checks() if check.name == "float32_agrees_with_float64")(made(_attend=broken))


def test_own_sequences_are_read_in_place_of_the_built_in_ones():
    causal, unmasked = gaussian(33, heads=1), gaussian(33, heads=1, causal=False)
    with pytest.raises(AssertionError, match=r"hidden_pairs_are_not_kept(?s:.*)reading 33 tokens, 1 heads"):
        check_mechanism(BROKEN["hidden_pairs_are_not_kept"], sequences=[causal.to(dtype=torch.float32)])
    check_mechanism(BROKEN["hidden_pairs_are_not_kept"], sequences=[unmasked])
    with pytest.raises(ValueError, match="refuses every one of the 1 given sequences"):
        check_mechanism(BROKEN["refusals_are_sentences"], sequences=[gaussian(63)])


def test_an_abstract_class_is_refused_by_name():
    with pytest.raises(TypeError, match="Mechanism is abstract, it does not define _attend"):
        check_mechanism(Mechanism)


@pytest.mark.parametrize("wrong", [0, 1, 2], ids=["output", "rows", "kept"])
def test_an_oracle_that_disagrees_is_named(wrong):
    from longattn_core.mechanisms.exact import Exact

    def other(setting, sequence, trace):
        parts = list(exact_oracle(setting, sequence, trace))
        parts[wrong] = ~parts[wrong] if wrong == 2 else parts[wrong] + 1e-3
        return tuple(parts)

    check_against_oracle(Exact(), exact_oracle)
    with pytest.raises(AssertionError, match=f"the {('output', 'rows', 'kept pairs')[wrong]} to be the oracle's"):
        check_against_oracle(Exact, other)
