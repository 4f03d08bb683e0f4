"""Measures against plain loops, on maps whose every number is known."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longattn_core import mechanism
from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Mechanism
from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures import cost, reach, sampling, spread
from longattn_core.measures import reference as reference_module
from longattn_core.measures.fidelity import fidelity, mean_of_visible, relative_error
from longattn_core.measures.sampling import Unavailable, sample_queries
from longattn_core.sequences.synthetic import synthetic
from tests.support.sequences import PADDINGS, gaussian

# Both sides are float64 sums over at most a few hundred terms.
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


class Nothing(StrEnum):
    NOTHING = "nothing"


class Given(Mechanism):
    """Attends with whatever rows it is told."""

    key: ClassVar[str] = "given"
    title: ClassVar[str] = "Given"
    complexity: ClassVar[str] = "n"
    why: str | None = None

    @property
    def not_stochastic(self):
        return self.why

    def _attend(self, sequence):
        raise NotImplementedError

    def ladder(self, n):
        return (self,)

    def with_budget(self, keys, n):
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense(Attended):
    weights: Tensor
    looked_at: Tensor

    def _rows(self, queries, heads):
        return self.weights[heads][:, queries]

    def _kept(self, queries, heads):
        return self.looked_at[heads][:, queries]

    def _explained(self, head, query, key, seen, exact, weight):
        return Explanation(kept=seen, exact=exact, weight=weight, reason=Nothing.NOTHING, facts={}, text="")


def dense(sequence, weights, seen=None, *, why=None, offset=0.0):
    seen = (weights != 0) if seen is None else seen
    return Dense(
        mechanism=Given(why=why),
        sequence=sequence,
        output=weights @ sequence.v + offset,
        trace=None,
        cost=Cost(multiply_adds=0, bytes_moved=0, bytes_peak=0),
        weights=weights,
        looked_at=seen,
    )


def windowed(sequence, width):
    """Exact attention inside a window, made shares again."""
    index = torch.arange(sequence.n)
    near = (index[:, None] - index).abs() < width
    rows = exact_rows(sequence) * near
    total = rows.sum(-1, keepdim=True)
    rows = torch.where(total > 0, rows / total, rows)
    return dense(sequence, rows, near.expand_as(rows) & sequence.allowed())


def with_sink(n=90, **settings):
    """Heads of which the first has a sink at key 3, not at the beginning."""
    sequence = gaussian(n, heads=2, d=8, e=6, **settings)
    k, v = sequence.k.clone(), sequence.v.clone()
    k[0, 3] = 4 * sequence.q[0].mean(0) + 2 * torch.nn.functional.normalize(sequence.q[0], dim=-1).mean(0)
    q = sequence.q.clone()
    q[0, :, 0] += 3.0
    k[0, :, 0] = 0.0
    k[0, 3, 0] = 3.0
    v[0, 3] *= 0.01
    return replace(sequence, q=q, k=k, v=v)


# --------------------------------------------------------------------------------------------------- sampling


def test_all_queries_are_measured_unless_told_otherwise():
    sequence = gaussian(20, padding="holes")
    real = [i for i in range(20) if i % 5 != 3]
    whole = sample_queries(sequence)
    assert whole.queries == tuple(real)
    assert whole.whole
    assert whole.text == "measured on all 16 queries"
    assert sample_queries(sequence, 16).queries == tuple(real)
    some = sample_queries(sequence, 5, seed=3)
    assert len(set(some.queries)) == 5
    assert set(some.queries) <= set(real)
    assert some.queries[-1] == real[-1]
    assert some == sample_queries(sequence, 5, seed=3)
    assert "5 of 16 queries" in some.text
    assert "(seed 3)" in some.text
    with pytest.raises(ValueError, match="at least one query, found 0"):
        sample_queries(sequence, 0)


@given(n=st.integers(1, 300), count=st.integers(1, 300), seed=st.integers(0, 5))
def test_a_sample_has_one_query_of_each_span(n, count, seed):
    chosen = sample_queries(gaussian(n, heads=1, d=2, e=1, calibrated=False), count, seed).queries
    most = min(n, count)
    assert len(chosen) == most
    assert chosen[-1] == n - 1
    for i, query in enumerate(chosen):
        assert n * i // most <= query < n * (i + 1) // most


# --------------------------------------------------------------------------------------------------- fidelity


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_the_mean_of_the_visible_values(n, causal, padding):
    sequence = gaussian(n, causal=causal, padding=padding)
    allowed = sequence.allowed().numpy()
    for head in range(2):
        for query in range(n):
            seen = sequence.v[head].numpy()[allowed[query]]
            expected = seen.mean(0) if len(seen) else np.zeros(6)
            np.testing.assert_allclose(mean_of_visible(sequence)[head, query], expected, rtol=1e-12, atol=1e-14)


def test_the_relative_error():
    reference = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    output = torch.tensor([[[3.0, 1.0]], [[0.0, 0.0]], [[0.0, 2.0]]])
    assert relative_error(output, reference).tolist() == [pytest.approx(0.6, rel=1e-12), 0.0, math.inf]


def plain_agreement(attended, queries, sinks):
    """The measures of one head after another, query by query, from their definitions."""
    sequence = attended.sequence
    found = {name: [] for name in ("error", "control", "recall", "share", "overlap", "variation", "divergence")}
    allowed = sequence.allowed().numpy()
    for head in range(sequence.h):
        keep = np.ones(sequence.n, bool)
        keep[list(sinks[head])] = False
        v = sequence.v[head].double().numpy()
        exact, given = exact_rows(sequence)[head].double().numpy(), attended.rows()[head].double().numpy()
        seen = attended.kept()[head].numpy()
        output = attended.output[head].double().numpy()
        sums = dict.fromkeys(("norm", "error", "control", "mass", "found", "pairs", "looked", "tv", "kl", "compared"), 0.0)
        for i in queries:
            visible = np.flatnonzero(allowed[i])
            reference = sum((exact[i, j] * v[j] for j in visible if keep[j]), np.zeros(v.shape[1]))
            estimate = output[i] - sum((given[i, j] * v[j] for j in visible if not keep[j]), np.zeros(v.shape[1]))
            control = sum((v[j] / len(visible) for j in visible if keep[j]), np.zeros(v.shape[1]))
            sums["norm"] += (reference**2).sum()
            sums["error"] += ((estimate - reference) ** 2).sum()
            sums["control"] += ((control - reference) ** 2).sum()
            mass = sum(exact[i, j] for j in visible if keep[j])
            sums["mass"] += mass
            sums["found"] += sum(exact[i, j] for j in visible if keep[j] and seen[i, j])
            sums["pairs"] += sum(keep[j] for j in visible)
            sums["looked"] += sum(keep[j] and seen[i, j] for j in visible)
            rest = sum(given[i, j] for j in visible if keep[j])
            if mass == 0:
                continue
            if rest == 0:
                sums["tv"] += mass
                continue
            p = {j: exact[i, j] / mass for j in visible if keep[j]}
            r = {j: given[i, j] / rest for j in visible if keep[j]}
            sums["tv"] += mass * sum(abs(p[j] - r[j]) for j in p) / 2
            sums["kl"] += mass * sum(r[j] * math.log(r[j] / p[j]) for j in p if r[j] > 0)
            sums["compared"] += mass
        found["error"].append(math.sqrt(sums["error"] / sums["norm"]))
        found["control"].append(math.sqrt(sums["control"] / sums["norm"]))
        found["recall"].append(sums["found"] / sums["mass"])
        found["share"].append(sums["looked"] / sums["pairs"])
        found["variation"].append(sums["tv"] / sums["mass"])
        found["overlap"].append(1 - sums["tv"] / sums["mass"])
        found["divergence"].append(sums["kl"] / sums["compared"])
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


def assert_agreement(agreement, expected):
    for name, values in expected.items():
        torch.testing.assert_close(getattr(agreement, name), values, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("causal", [True, False])
def test_fidelity_is_what_plain_loops_give(causal, padding):
    sequence = with_sink(60, causal=causal, padding=padding, scale=1.4)
    attended = windowed(sequence, 7)
    sinks = ((3,), (0, 5))
    measured = fidelity(attended, sinks=sinks)
    queries = sequence.real.nonzero().squeeze(-1).tolist()
    assert measured.sample.queries == tuple(queries)
    assert_agreement(measured.whole, plain_agreement(attended, queries, ((), ())))
    assert_agreement(measured.without_sinks, plain_agreement(attended, queries, sinks))


def test_fidelity_of_some_queries_is_that_of_those_queries():
    attended = windowed(with_sink(80), 5)
    measured = fidelity(attended, queries=11, seed=2)
    assert len(measured.sample.queries) == 11
    assert measured.sinks == spread.find_sinks(attended.sequence, measured.sample)
    assert_agreement(measured.whole, plain_agreement(attended, measured.sample.queries, ((), ())))


def test_fidelity_does_not_depend_on_the_size_of_the_blocks(monkeypatch):
    attended = windowed(with_sink(70), 5)
    whole = fidelity(attended)
    monkeypatch.setattr(sampling, "CELLS", 3 * 2 * 70)
    # Sinks that are named are not those of the rule, and nothing is taken from what is kept.
    parts = fidelity(attended, sinks=whole.sinks)
    for side in ("whole", "without_sinks"):
        for name in ("error", "control", "recall", "share", "overlap", "variation", "divergence"):
            torch.testing.assert_close(getattr(getattr(parts, side), name), getattr(getattr(whole, side), name), **CLOSE)


def test_the_exact_side_is_computed_once_for_all_mechanisms_and_left_as_it_is(monkeypatch):
    sequence, asked = with_sink(70), []
    monkeypatch.setattr(reference_module, "find_sinks", lambda *given: asked.append(1) or spread.find_sinks(*given))
    first, second = windowed(sequence, 5), windowed(sequence, 9)
    fidelity(first), fidelity(second), fidelity(first)
    assert len(asked) == 1
    for attended in (second, first):
        assert_agreement(fidelity(attended).without_sinks, plain_agreement(attended, range(70), spread.find_sinks(sequence)))
    fidelity(windowed(with_sink(70), 5))
    assert len(asked) == 2, "another sequence has an exact side of its own"


def test_rows_that_are_at_hand_take_the_place_of_the_mechanisms_own():
    sequence = with_sink(70)
    narrow, wide = windowed(sequence, 5), windowed(sequence, 9)
    own, given = fidelity(wide).whole, fidelity(narrow, views=wide.rows_and_kept).whole
    for name in ("recall", "share", "overlap", "divergence"):
        torch.testing.assert_close(getattr(given, name), getattr(own, name), **CLOSE)
    torch.testing.assert_close(given.error, fidelity(narrow).whole.error, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_attention_agrees_with_itself(dtype):
    attended = mechanism("exact").attend(with_sink(70).to(dtype=dtype))
    measured = fidelity(attended)
    # float32 rows differ from their float64 reference by their rounding, 1e-7 times the scores' size.
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    for agreement in (measured.whole, measured.without_sinks):
        assert float(agreement.error.max()) < slack
        assert float(agreement.variation.max()) < slack
        assert float(agreement.divergence.max()) < slack
        torch.testing.assert_close(agreement.overlap, torch.ones(2, dtype=torch.float64), rtol=0, atol=slack)
        torch.testing.assert_close(agreement.recall, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)
        assert agreement.share.tolist() == [1.0, 1.0]
        assert float(agreement.control.min()) > 0.1


def test_the_control_scores_as_itself():
    sequence = gaussian(50, causal=True)
    uniform = sequence.allowed().double()
    attended = dense(sequence, (uniform / uniform.sum(-1, keepdim=True)).expand(2, -1, -1))
    agreement = fidelity(attended).whole
    torch.testing.assert_close(agreement.error, agreement.control, **CLOSE)


def test_chance_recall_is_the_share_of_pairs_on_identical_rows():
    sequence = synthetic("identical", n=64, d=8, causal=False, dtype="float64").sequence()
    agreement = fidelity(windowed(sequence, 4)).whole
    torch.testing.assert_close(agreement.recall, agreement.share, **CLOSE)
    torch.testing.assert_close(agreement.overlap, agreement.share, **CLOSE)


def test_a_row_with_all_its_weight_on_a_sink_shares_nothing_outside_it():
    sequence = with_sink(50)
    rows = torch.zeros(2, 50, 50, dtype=torch.float64)
    rows[:, :, 3] = 1.0
    rows[:, :3] = exact_rows(sequence)[:, :3]
    measured = fidelity(dense(sequence, rows), sinks=((3,), (3,)))
    assert_agreement(measured.without_sinks, plain_agreement(dense(sequence, rows), range(50), ((3,), (3,))))
    assert float(measured.without_sinks.overlap.max()) < 0.2


def test_the_first_query_may_see_nothing_but_a_sink():
    sequence = synthetic("sink", n=60, d=8, dtype="float64").sequence()
    measured = fidelity(windowed(sequence, 6))
    assert measured.sinks == ((0,),)
    assert_agreement(measured.without_sinks, plain_agreement(windowed(sequence, 6), range(60), ((0,),)))


@pytest.mark.parametrize(
    ("why", "low", "words"),
    [("Its rows are no shares by design.", 0.1, "by design"), (None, -0.1, "query 7 holds a negative weight")],
)
def test_what_needs_shares_is_unavailable_where_there_are_none(why, low, words):
    sequence = gaussian(20)
    rows = exact_rows(sequence).clone()
    rows[1, 7, 2] = low
    measured = fidelity(dense(sequence, rows, why=why))
    for name in ("overlap", "variation", "divergence"):
        for agreement in (measured.whole, measured.without_sinks):
            assert isinstance(getattr(agreement, name), Unavailable)
            assert words in getattr(agreement, name).reason
    assert float(measured.whole.error[1]) > 0
    assert float(measured.whole.recall[0]) == pytest.approx(1.0, rel=1e-12)


def test_the_divergence_is_finite_where_exact_weights_underflow():
    sequence = gaussian(30, scale=9.0).to(dtype=torch.float32)
    assert float(exact_rows(sequence)[:, -1].min()) == 0.0
    uniform = sequence.allowed().float()
    attended = dense(sequence, (uniform / uniform.sum(-1, keepdim=True)).expand(2, -1, -1))
    divergence = fidelity(attended).whole.divergence
    assert bool(torch.isfinite(divergence).all())
    assert float(divergence.min()) > 50


def test_measuring_leaves_the_rows_as_they_are(monkeypatch):
    sequence = synthetic("sink", n=60, d=8, dtype="float64").sequence()
    attended = dense(sequence, exact_rows(sequence))
    kept = attended.rows()
    monkeypatch.setattr(type(attended), "rows", lambda self, queries: kept)
    assert fidelity(attended).sinks == ((0,),)
    assert torch.equal(kept, exact_rows(sequence))


def test_what_is_added_to_the_values_counts_as_output():
    sequence = gaussian(20)
    moved = dense(sequence, exact_rows(sequence), offset=1.0)
    norm = (exact_rows(sequence) @ sequence.v).square().sum((1, 2)).sqrt()
    torch.testing.assert_close(fidelity(moved).whole.error, math.sqrt(20 * 6) / norm, **CLOSE)


# ------------------------------------------------------------------------------------------------- spread


def test_entropy_and_effective_tokens():
    rows = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(spread.entropy(rows), torch.tensor([0, math.log(4), math.log(2), 0], dtype=torch.float64), **CLOSE)
    assert spread.effective_tokens(rows).tolist() == pytest.approx([1, 4, 2, 1], rel=1e-12)


def test_keys_for_a_share_of_the_mass():
    rows = torch.tensor([[0.1, 0.6, 0.3, 0.0], [0.25] * 4, [0, 0, 1.0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    assert spread.keys_for_mass(rows, 0.9).tolist() == [2, 4, 1, 0]
    assert spread.keys_for_mass(rows, 0.5).tolist() == [1, 2, 1, 0]
    assert spread.keys_for_mass(rows, 1.0).tolist() == [3, 4, 1, 0]


@pytest.mark.parametrize("causal", [True, False])
def test_the_spread_of_identical_rows_is_its_bound(causal):
    sequence = synthetic("identical", n=40, d=8, causal=causal, dtype="float64").sequence()
    found = spread.spread(sequence)
    torch.testing.assert_close(found.entropy[0], found.bound, **CLOSE)
    visible = torch.arange(1, 41) if causal else torch.full((40,), 40)
    torch.testing.assert_close(found.effective[0], visible.double(), **CLOSE)
    assert found.keys[0].tolist() == [math.ceil(0.9 * n - 1e-6) for n in visible.tolist()]


def test_spread_without_sinks_is_of_what_is_left():
    sequence = with_sink(60)
    rows = exact_rows(sequence).double().clone()
    rows[0, :, 3] = 0.0
    rows = rows / rows.sum(-1, keepdim=True)
    found = spread.spread(sequence, sinks=((3,), ()))
    torch.testing.assert_close(found.entropy, spread.entropy(rows), **CLOSE)
    assert bool((found.entropy <= found.bound + 1e-9).all())
    some = sample_queries(sequence, 7)
    torch.testing.assert_close(spread.spread(sequence, some).entropy, spread.entropy(exact_rows(sequence, some.queries)), **CLOSE)


def test_the_spread_of_what_is_no_share_is_unavailable():
    sequence = gaussian(9)
    assert spread.spread(dense(sequence, exact_rows(sequence), why="No shares.")) == Unavailable(reason="No shares.")
    assert isinstance(spread.spread(dense(sequence, exact_rows(sequence) - 0.2)), Unavailable)
    assert not isinstance(spread.spread(dense(sequence, exact_rows(sequence))), Unavailable)


def plain_sinks(sequence):
    found = []
    for head in range(sequence.h):
        rows, norms = exact_rows(sequence)[head], sequence.v[head].norm(dim=-1)
        median = float(np.median([float(norms[j]) for j in range(sequence.n) if sequence.real[j]]))
        keys = []
        for j in range(sequence.n):
            given = [float(rows[i, j]) for i in range(j + 32, sequence.n) if sequence.real[i]]
            if given and sequence.real[j] and sum(given) / len(given) >= 0.02 and float(norms[j]) <= median / 2:
                keys.append(j)
        found.append(tuple(keys))
    return tuple(found)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("causal", [True, False])
def test_sinks_follow_the_rule(causal, padding):
    sequence = with_sink(90, causal=causal, padding=padding)
    # What stands in the place of padding is no value of the head.
    sequence = replace(sequence, v=torch.where(sequence.real[:, None], sequence.v, 100 * sequence.v))
    found = spread.find_sinks(sequence)
    assert found == plain_sinks(sequence)
    if padding == "none":
        assert found == ((3,), ())
    # A long value makes it a key that is read, not a sink.
    loud = replace(sequence, v=sequence.v + 300 * torch.nn.functional.one_hot(torch.tensor(3), 90)[None, :, None])
    assert 3 not in spread.find_sinks(loud)[0]


def test_a_short_sequence_has_no_sinks():
    assert spread.find_sinks(with_sink(90).prefix(32)) == ((), ())
    assert spread.find_sinks(with_sink(90).prefix(36)) == ((3,), ())


def test_effective_and_energy_rank():
    values = torch.tensor([[1.0, 1, 1, 1], [5, 0, 0, 0], [0, 0, 0, 0], [10, 1, 0.5, 0]], dtype=torch.float64)
    assert spread.effective_rank(values)[:3].tolist() == pytest.approx([4, 1, 0], rel=1e-12)
    assert spread.energy_rank(values, 0.99).tolist() == [4, 1, 0, 2]
    assert spread.energy_rank(values, 0.98).tolist() == [4, 1, 0, 1]


def test_ranks_with_and_without_sinks():
    sequence = with_sink(80)
    found = spread.ranks(sequence)
    rows = exact_rows(sequence).double()
    assert found.sinks == ((3,), ())
    np.testing.assert_allclose(found.values, np.linalg.svd(rows.numpy(), compute_uv=False), rtol=1e-9, atol=1e-12)
    rows[0, :, 3] = 0.0
    np.testing.assert_allclose(found.without_sinks, np.linalg.svd(rows.numpy(), compute_uv=False), rtol=1e-9, atol=1e-12)
    assert float(spread.effective_rank(found.without_sinks)[0]) > float(spread.effective_rank(found.values)[0])
    mapped = spread.ranks(dense(sequence, rows), sinks=((), ()))
    torch.testing.assert_close(mapped.values, found.without_sinks, **CLOSE)


def test_ranks_are_not_computed_beyond_what_is_bearable(monkeypatch):
    monkeypatch.setattr(spread, "LARGEST_RANKED", 30)
    assert "up to 30 tokens" in spread.ranks(gaussian(31)).reason
    assert not isinstance(spread.ranks(gaussian(30)), Unavailable)


@pytest.mark.parametrize("causal", [True, False])
def test_mass_by_distance(causal):
    sequence = gaussian(25, causal=causal, padding="holes")
    rows = exact_rows(sequence).numpy()
    queries = sequence.real.nonzero().squeeze(-1).tolist()
    expected = np.zeros((2, 25))
    for head in range(2):
        for i in queries:
            for j in range(25):
                expected[head, abs(i - j)] += rows[head, i, j] / len(queries)
    found = spread.mass_by_distance(sequence)
    np.testing.assert_allclose(found, expected, **CLOSE)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, dtype=torch.float64), **CLOSE)
    torch.testing.assert_close(spread.mass_within(found, 4), found[:, :4].sum(-1), **CLOSE)
    mapped = spread.mass_by_distance(windowed(sequence, 4))
    torch.testing.assert_close(spread.mass_within(mapped, 4), torch.ones(2, dtype=torch.float64), **CLOSE)


# ---------------------------------------------------------------------------------------------------- reach


def boolean_reach(patterns, position):
    """Distance to the furthest token after the last layer, by products of boolean matrices; topmost layer first."""
    reached = np.eye(len(patterns[0]), dtype=bool)[position]
    for pattern in patterns:
        reached = reached | (reached @ pattern)
    return position - int(np.flatnonzero(reached).min())


def pattern(n, see):
    return np.array([[j <= i and see(i, j) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("layers", [0, 1, 2, 3, 5])
@pytest.mark.parametrize(("width", "dilation"), [(1, 1), (4, 1), (4, 3), (50, 1)])
def test_window_reach(width, dilation, layers):
    seen = pattern(48, lambda i, j: (i - j) % dilation == 0 and (i - j) // dilation < width)
    for position in (0, 5, 47):
        found = reach.window_reach(position, width, layers, dilation=dilation)
        assert found == min(position, layers * (width - 1) * dilation) or dilation > 1
        if dilation == 1 or found < position:
            assert found == boolean_reach([seen] * layers or [np.eye(48, dtype=bool)], position)


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
@pytest.mark.parametrize(("segment", "memory"), [(8, 0), (8, 8), (8, 16), (8, 5), (8, 12), (1, 3), (64, 8)])
def test_memory_reach(segment, memory, layers):
    seen = pattern(60, lambda i, j: j >= i // segment * segment - memory)
    for position in (0, 7, 8, 33, 59):
        found = reach.memory_reach(position, segment, memory, layers)
        assert found == boolean_reach([seen] * layers or [np.eye(60, dtype=bool)], position)
        if memory % segment == 0:
            assert found == reach.memory_reach_closed(position, segment, memory, layers)


def test_the_closed_form_of_memory_is_wrong_where_it_says_so():
    with pytest.raises(ValueError, match="multiple of the segment, found 12 and 8"):
        reach.memory_reach_closed(33, 8, 12, 3)
    assert reach.memory_reach(33, 8, 12, 3) != 33 % 8 + 3 * 12


@pytest.mark.parametrize("layers", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("width", [1, 2, 7, 8])
@pytest.mark.parametrize("integration", ["none", "summaries", "second", "overlap", "shifted"])
def test_segment_reach(integration, width, layers):
    n, overlap, half = 45, 3, max(1, width // 2)
    straight = pattern(n, lambda i, j: i // width == j // width)
    shifted = pattern(n, lambda i, j: (i + width - half) // width == (j + width - half) // width)
    patterns = {
        "none": [straight] * layers,
        "summaries": [pattern(n, lambda i, j: True)] * layers,
        "second": [pattern(n, lambda i, j: True)] * layers,
        "overlap": [pattern(n, lambda i, j: j >= i // width * width - overlap)] * layers,
        "shifted": [(straight, shifted)[layer % 2] for layer in range(layers)],
    }[integration]
    for position in (0, 1, 6, 7, 8, 30, 44):
        found = reach.segment_reach(position, width, layers, integration, overlap=overlap)
        assert found == boolean_reach(patterns or [np.eye(n, dtype=bool)], position)


def test_reach_of_what_is_not_there():
    with pytest.raises(ValueError, match="width must be at least 1, found 0"):
        reach.window_reach(5, 0, 1)
    with pytest.raises(ValueError, match="must not be negative, found -1 and 2"):
        reach.memory_reach(-1, 4, 4, 2)


@pytest.mark.parametrize("causal", [True, False])
def test_the_frontier_of_any_pattern(causal):
    sequence = gaussian(40, causal=causal)
    index = torch.arange(40)
    # A token that does not look at itself still keeps what it knew.
    strided = ((index[:, None] - index) % 7 == 0) & (index[:, None] != index) & sequence.allowed()
    local = ((index[:, None] - index).abs() < 3) & sequence.allowed()
    first, second = (dense(sequence, seen.double().expand(2, -1, -1), seen.expand(2, -1, -1)) for seen in (strided, local))
    found = reach.frontier([first, second], 33, 3, head=1)
    reached = np.eye(40, dtype=bool)[33]
    for layer, seen in enumerate((strided, local, strided)):
        reached = reached | (reached @ seen.numpy())
        np.testing.assert_array_equal(found.reached[layer], reached)
        assert found.counts[layer] == reached.sum()
        assert found.furthest[layer] == np.abs(np.flatnonzero(reached) - 33).max()
    alone = reach.frontier(second, 33, 4)
    assert alone.furthest[-1] == reach.window_reach(33, 3, 4) if causal else alone.furthest[-1] == 8


def test_a_frontier_needs_a_query_and_a_map():
    attended = windowed(gaussian(6), 2)
    with pytest.raises(ValueError, match="query must lie in 0 … 5, found 6"):
        reach.frontier(attended, 6, 1)
    with pytest.raises(ValueError, match="found 0 and 1"):
        reach.frontier([], 0, 1)


# ----------------------------------------------------------------------------------------------------- cost


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, 64, 65, 257])
def test_the_formula_of_exact_attention_is_what_it_counts(n, causal):
    sequence = gaussian(n, heads=3, d=8, e=6, causal=causal)
    expected = mechanism("exact").attend(sequence).cost
    assert cost.exact_cost(heads=3, n=n, d=8, e=6, causal=causal, number_bytes=8) == expected


def test_a_cost_curve_is_counted_on_prefixes_and_grows_as_it_should():
    sequence = gaussian(512, heads=1, causal=True)
    points = cost.cost_curve(mechanism("exact"), sequence, cost.doublings(512))
    assert [point.n for point in points] == [64, 128, 256, 512]
    for point in points:
        assert point.cost.multiply_adds == point.n * (point.n + 1) // 2 * (8 + 6)
    assert cost.growth(points) == pytest.approx(2.0, abs=0.01)
    assert cost.break_even(points, heads=1, d=8, e=6, causal=True) is None
    assert isinstance(cost.growth(points[:1]), Unavailable)
    with pytest.raises(ValueError, match="513"):
        cost.cost_curve(mechanism("exact"), sequence, [513])


class Refusing(Given):
    def refuses(self, sequence):
        return "Too short." if sequence.n < 100 else None

    def _attend(self, sequence):
        rows = torch.zeros(sequence.h, sequence.n, sequence.n, dtype=torch.float64)
        return replace(dense(sequence, rows), cost=Cost(multiply_adds=2000 * sequence.n, bytes_moved=1, bytes_peak=1))


def test_a_refusal_is_a_point_of_the_curve_and_a_cheaper_mechanism_breaks_even():
    points = cost.cost_curve(Refusing(), gaussian(512, heads=1), (64, 128, 256, 512))
    assert points[0].cost == Unavailable(reason="Too short.")
    assert cost.growth(points) == pytest.approx(1.0, rel=1e-12)
    # n²·14/2 first exceeds 2000·n at n = 285.
    assert cost.break_even(points, heads=1, d=8, e=6, causal=True) == 512
    assert cost.break_even(points, heads=1, d=8, e=6, causal=False) == 256


def test_a_mechanism_breaks_even_where_it_stays_cheaper():
    exact = {n: cost.exact_cost(heads=1, n=n, d=4, e=4, causal=True).multiply_adds for n in (64, 128, 256, 512)}
    dear = {64: -1, 128: 1, 256: -1, 512: -1}
    points = [cost.CostPoint(n=n, cost=Cost(multiply_adds=exact[n] + dear[n], bytes_moved=1, bytes_peak=1)) for n in exact]
    assert cost.break_even(points, heads=1, d=4, e=4, causal=True) == 256


def test_lengths_and_a_models_memory_of_a_token():
    assert cost.doublings(1000) == (64, 128, 256, 512, 1000)
    assert cost.doublings(64) == (64,)
    assert cost.doublings(5) == (5,)
    # SmolLM2-135M: 30 layers, 3 key/value heads of 64 channels, two bytes a number.
    assert cost.key_value_bytes(layers=30, key_value_heads=3, d=64, e=64) == 23_040
