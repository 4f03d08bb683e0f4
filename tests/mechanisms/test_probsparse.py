"""What is special about ProbSparse: the sample, the measure, the ranking, and the mean that lazy queries take."""

import math

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Sequence
from longattn_core.contracts.mechanism import Reason
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.probsparse import ProbSparse
from longattn_core.mechanisms.probsparse.map import ProbSparseReason
from tests.oracles.probsparse import compared, is_active, kept, measure, oracle, rank_of, real_tokens, visible_to
from tests.support.sequences import PADDINGS, gaussian

SETTINGS = {
    "default": ProbSparse(),
    "few": ProbSparse(factor=1.0, samples=2.0, seed=3),
    "five": ProbSparse(queries=5),
    "exact measure": ProbSparse(factor=1.5, measure="exact"),
    "none but the best": ProbSparse(factor=0.1, samples=0.1),
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
masks = pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])


@settings
@masks
@pytest.mark.parametrize("padding", PADDINGS)
def test_settings_agree_with_the_definition(setting, causal, padding):
    for n in (1, 2, 23):
        sequence = gaussian(n, causal=causal, padding=padding, seed=n)
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        assert torch.equal(attended.kept(), seen)
        assert_close(attended.rows(), rows, rtol=1e-11, atol=1e-12)
        assert_close(attended.output, output, rtol=1e-11, atol=1e-12)


@settings
@masks
def test_every_pair_is_explained_truly(setting, causal):
    sequence = gaussian(20, causal=causal, padding="holes", seed=2)
    attended = setting.attend(sequence)
    for query in range(20):
        # A third of the keys, another third for the next query.
        for key in range(query % 3, 20, 3):
            check_explanation(setting, sequence, attended, 1, query, key)


def check_explanation(setting, sequence, attended, head, query, key):
    said, real = attended.explain(head, query, key), real_tokens(sequence)
    if query not in real or key not in real:
        assert said.reason is Reason.PADDING
        return
    if sequence.causal and key > query:
        assert said.reason is Reason.FUTURE
        return
    active = is_active(setting, sequence, attended.trace, head, query)
    assert said.kept
    assert said.reason is (ProbSparseReason.ACTIVE if active else ProbSparseReason.LAZY)
    facts, visible = said.facts, len(visible_to(sequence, query))
    assert facts["rank"] == rank_of(setting, sequence, attended.trace, head, query)
    assert (facts["among"], facts["kept"], facts["visible"]) == (
        len(compared(sequence, query)),
        kept(setting, sequence, query),
        visible,
    )
    assert math.isclose(facts["measure"], measure(setting, sequence, attended.trace, head, query), rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(facts["uniform"], 1 / visible)
    assert math.isclose(said.weight, said.exact if active else 1 / visible, rel_tol=1e-9)


def test_an_active_row_is_exact_and_a_lazy_one_is_the_mean():
    sequence = gaussian(80)
    attended = ProbSparse(queries=8).attend(sequence)
    exact, active = exact_rows(sequence), attended.trace.active
    assert 8 < int(active[0].sum()) < 40
    assert_close(attended.rows()[active], exact[active], rtol=1e-12, atol=1e-14)
    means = sequence.v.cumsum(1) / torch.arange(1, 81)[:, None]
    assert_close(attended.output[~active], means[~active], rtol=1e-12, atol=1e-13)


@masks
def test_samples_are_visible_real_tokens_and_the_same_for_all_heads(causal):
    sequence = gaussian(90, causal=causal, padding="holes")
    sample = ProbSparse().attend(sequence).trace.sample
    for query, drawn in enumerate(sample.tolist()):
        keys = [key for key in drawn if key >= 0]
        visible = visible_to(sequence, query) if query in real_tokens(sequence) else []
        assert set(keys) <= set(visible)
        assert len(keys) == (max(1, math.ceil(5 * math.log(len(visible)))) if visible else 0)
    one = ProbSparse().attend(sequence.select_heads(1))
    assert torch.equal(one.trace.sample, sample)


def test_a_longer_text_does_not_change_what_its_beginning_does():
    """Draws, ranks and outputs of the first 70 tokens are those of the 70 tokens alone."""
    sequence = gaussian(200)
    whole, part = ProbSparse(factor=1.0).attend(sequence), ProbSparse(factor=1.0).attend(sequence.prefix(70))
    columns = part.trace.sample.shape[1]
    assert torch.equal(whole.trace.sample[:70, :columns], part.trace.sample)
    assert torch.equal(whole.trace.rank[:, :70], part.trace.rank)
    assert_close(whole.output[:, :70], part.output, rtol=1e-12, atol=1e-13)


def test_samples_are_drawn_evenly():
    """A chi-square over the 50 keys of the last query, from 200 seeds: within 4.5 deviations of its mean of 49."""
    sequence = gaussian(50, heads=1, d=2)
    counts = torch.zeros(50)
    for seed in range(200):
        drawn = ProbSparse(seed=seed).attend(sequence).trace.sample[49]
        counts += torch.bincount(drawn[drawn >= 0], minlength=50)
    expected = counts.sum() / 50
    assert abs(float(((counts - expected) ** 2 / expected).sum()) - 49) < 4.5 * math.sqrt(2 * 49)


@pytest.mark.parametrize("n", [1, 2, 3, 31, 64, 100])
def test_ranks_count_the_earlier_queries_with_at_least_the_measure(n):
    """Ties included: half of the queries are repeated, so that whole groups share one measure."""
    sequence = gaussian(n, heads=2)
    trace = ProbSparse(measure="exact").attend(sequence).trace
    q = torch.ones_like(sequence.q)
    level = ProbSparse(measure="exact").attend(Sequence(q=q, k=q, v=sequence.v, causal=True)).trace
    for measured in (trace, level):
        at_least = measured.measure[:, None, :] >= measured.measure[:, :, None]
        earlier = torch.arange(n)[None, :] < torch.arange(n)[:, None]
        assert torch.equal(measured.rank, 1 + (at_least & earlier).sum(-1))


def test_unmasked_ranks_are_a_permutation():
    trace = ProbSparse(queries=7).attend(gaussian(60, causal=False)).trace
    assert torch.equal(trace.rank.sort(dim=-1).values, torch.arange(1, 61).expand(2, -1))
    assert trace.active.sum(-1).tolist() == [7, 7]
    best = trace.measure.topk(7).indices.sort().values
    assert torch.equal(trace.active.nonzero()[:, 1].view(2, 7), best)


def test_c_ln_n_queries_attend():
    for factor, n in ((3.0, 400), (1.0, 55), (0.1, 90)):
        active = ProbSparse(factor=factor).attend(gaussian(n, causal=False)).trace.active
        assert active.sum(-1).tolist() == [max(1, math.floor(factor * math.log(n)))] * 2
        causal = ProbSparse(factor=factor).attend(gaussian(n)).trace
        assert causal.kept.tolist() == [min(i, max(1, math.floor(factor * math.log(i)))) for i in range(1, n + 1)]
        assert torch.equal(causal.active, causal.rank <= causal.kept)


@masks
def test_the_sampled_measure_tends_to_the_exact_one(causal):
    """With 50·ln n draws from 100 keys few are left out: the sampled spread is near the exact one, and never far above it."""
    sequence = gaussian(100, causal=causal)
    sampled = ProbSparse(samples=50.0).attend(sequence).trace.measure
    exact = ProbSparse(measure="exact").attend(sequence).trace.measure
    assert float((sampled - exact).abs().median()) < 0.1
    assert float((ProbSparse(samples=1.0).attend(sequence).trace.measure - exact).abs().median()) > 0.3


def test_looked_counts_the_sample_of_a_lazy_query():
    attended = ProbSparse(factor=0.5).attend(gaussian(100))
    lazy = int((~attended.trace.active[0]).nonzero()[-1])
    drawn = attended.trace.sample[lazy]
    looked = attended.read_count(0, lazy)
    assert looked.count == len({key for key in drawn.tolist() if key >= 0}) < 30
    assert looked.unit != "keys"
    active = int(attended.trace.active[0].nonzero()[-1])
    assert (attended.read_count(0, active).count, attended.read_count(0, active).unit) == (active + 1, "keys")


@settings
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(setting):
    base = gaussian(13, heads=1, d=3, e=2, padding="holes", seed=8)

    def output(q, k, v):
        return setting.attend(Sequence(q=q, k=k, v=v, causal=True, padding=base.padding)).output

    inputs = tuple(x.clone().requires_grad_(True) for x in (base.q, base.k, base.v))
    assert torch.autograd.gradcheck(output, inputs, eps=1e-6, atol=1e-7)


def test_the_running_mean_of_a_long_float32_text_stays_sharp():
    n = 30000
    source = torch.Generator().manual_seed(0)
    v = torch.rand(1, n, 1, generator=source) + 100
    q = torch.zeros(1, n, 2)
    output = ProbSparse(factor=0.1, samples=0.1).attend(Sequence(q=q, k=q, v=v, causal=True)).output
    expected = v.double().cumsum(1) / torch.arange(1, n + 1)[:, None]
    assert_close(output.double(), expected, rtol=1e-6, atol=0)  # one float32 rounding is 6e-8; a float32 sum drifts by 1e-5


def test_cost_counts_measured_and_active_pairs():
    sequence = gaussian(100, heads=2, d=8, e=6)
    attended = ProbSparse(queries=4).attend(sequence)
    trace = attended.trace
    active = sum(int(i) + 1 for _, i in trace.active.nonzero())
    assert attended.cost.multiply_adds == 2 * int((trace.sample >= 0).sum()) * 8 + active * 14 + 2 * 100 * 6
