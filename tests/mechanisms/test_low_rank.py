"""Low rank: the best map there is, projections that keep norms and hide no future, landmarks of real tokens only."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from longattn_core import Sequence, mechanism
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.low_rank.linformer import LinformerTrace
from longattn_core.mechanisms.low_rank.map import LowRankReason
from longattn_core.mechanisms.low_rank.nystrom import NystromTrace
from longattn_core.mechanisms.low_rank.truncated import SvdTrace
from longattn_core.studies.base.run import run_mechanism
from tests.support.sequences import gaussian

PROJECTIONS = ("mean", "gaussian", "fitted")
UNMASKED = [("linformer", projection) for projection in PROJECTIONS] + [("nystrom", "mean")]


def error(setting, sequence):
    exact = exact_rows(sequence) @ sequence.v
    return float((setting.attend(sequence).output - exact).norm() / exact.norm())


# ----------------------------------------------------------------------------------------------------------- SVD


@pytest.mark.parametrize("causal", [True, False])
def test_what_the_svd_leaves_out_is_the_tail_of_the_singular_values(causal):
    """Eckart and Young: ‖A − A_k‖² is Σ σ² beyond k, and no other map of that rank comes closer."""
    sequence = gaussian(60, causal=causal, padding="holes")
    exact = exact_rows(sequence)
    for rank in (1, 5, 20):
        attended = mechanism("low_rank", rank=rank).attend(sequence)
        trace = attended.trace
        assert isinstance(trace, SvdTrace)
        left, right = attended.factors()
        left_out = (exact - left @ right.mT).square().sum((1, 2))
        assert_close(left_out, trace.singular_values[:, rank:].square().sum(1), rtol=1e-9, atol=1e-12)
        for head in range(2):
            assert_close(
                trace.singular_values[head].numpy(),
                np.linalg.svd(exact[head].numpy(), compute_uv=False)[: len(trace.singular_values[head])],
                rtol=1e-9,
                atol=1e-12,
            )
        if causal:
            continue
        for projection in PROJECTIONS:
            other = mechanism("low_rank", variant="linformer", projection=projection, rank=rank).attend(sequence).rows()
            assert bool(((exact - other).square().sum((1, 2)) >= left_out - 1e-12).all())


def test_the_factors_are_orthonormal_and_empty_at_padding():
    sequence = gaussian(50, padding="left")
    trace = mechanism("low_rank", rank=7).attend(sequence).trace
    for factor in (trace.u, trace.v):
        assert_close(factor.mT @ factor, torch.eye(7, dtype=torch.float64).expand(2, 7, 7), rtol=0, atol=1e-12)
        assert float(factor[:, ~sequence.real].abs().max()) == 0


def test_the_svd_is_masked_again_and_not_renormalised():
    sequence = gaussian(40)
    attended = mechanism("low_rank", rank=4).attend(sequence)
    left, right = attended.factors()
    assert_close(attended.rows(), (left @ right.mT).tril(), rtol=1e-12, atol=1e-14)
    assert_close(attended.output, (left @ right.mT).tril() @ sequence.v, rtol=1e-11, atol=1e-12)
    assert float((attended.rows().sum(-1) - 1).abs().max()) > 0.01
    assert float((left @ right.mT).triu(1).abs().max()) > 1e-3


def test_the_leak_that_the_svd_names_is_there():
    sequence = gaussian(60)
    k = sequence.k.clone()
    k[:, 50:] *= 4
    setting = mechanism("low_rank", rank=8)
    assert "later token" in setting.depends_on_future
    other = Sequence(q=sequence.q, k=k, v=sequence.v, causal=True)
    moved = setting.attend(sequence).output[:, :50] - setting.attend(other).output[:, :50]
    assert float(moved.abs().max()) > 1e-4
    for variant, projection in UNMASKED:
        assert mechanism("low_rank", variant=variant, projection=projection).depends_on_future is None


# ----------------------------------------------------------------------------------------------------- refusals


def test_refusals_are_one_sentence_each():
    small = gaussian(5)
    for variant, projection in UNMASKED:
        setting = mechanism("low_rank", variant=variant, projection=projection)
        assert "future" in setting.refuses(small)
        assert setting.refuses(small.masked(causal=False)) is None
        with pytest.raises(ValueError, match="future"):
            setting.attend(small)
    x = torch.zeros(1, 4097, 1)
    for causal in (True, False):
        assert "4,096" in mechanism("low_rank").refuses(Sequence(q=x, k=x, v=x, causal=causal))
        assert mechanism("low_rank").refuses(Sequence(q=x[:, 1:], k=x[:, 1:], v=x[:, 1:], causal=causal)) is None
    assert mechanism("low_rank").exact_setting(4097) is None


# ---------------------------------------------------------------------------------------------------- projections


@pytest.mark.parametrize("name", ["e", "f"])
def test_a_gaussian_projection_keeps_norms_on_average(name):
    """E‖Ew‖² = ‖w‖², and not a third of it: the mean over 400 draws within five standard errors, each under 2 %."""
    n, rank = 50, 12
    sequence = gaussian(n, heads=1, causal=False)
    w = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for seed in range(400):
        setting = mechanism("low_rank", variant="linformer", projection="gaussian", rank=rank, seed=seed)
        found.append(float((getattr(setting.attend(sequence).trace, name) @ w).square().sum() / w.square().sum()))
    spread = float(np.std(found)) / 20
    assert spread < 0.03
    assert abs(float(np.mean(found)) - 1) < 5 * spread


def test_e_and_f_are_different_draws_and_all_heads_share_them():
    trace = mechanism("low_rank", variant="linformer", projection="gaussian", rank=9).attend(gaussian(30, causal=False)).trace
    assert isinstance(trace, LinformerTrace)
    assert trace.e.shape == trace.f.shape == (9, 30)
    assert not torch.equal(trace.e, trace.f)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("padding", ["none", "holes", "left"])
def test_the_written_out_projections_give_the_output(projection, padding):
    """e and f of the trace, fed to the paper's formula, are the whole mechanism: anyone can use the same draw."""
    sequence = gaussian(1050 if projection == "gaussian" else 70, causal=False, padding=padding)
    attended = mechanism("low_rank", variant="linformer", projection=projection, rank=11).attend(sequence)
    e, f = attended.trace.e, attended.trace.f
    output = (sequence.q @ (e @ sequence.k).mT / sequence.d**0.5).softmax(-1) @ (f @ sequence.v)
    assert_close(attended.output, output * sequence.real[:, None], rtol=1e-9, atol=1e-9)
    assert float(e[..., ~sequence.real].abs().sum()) == 0
    assert float(f[..., ~sequence.real].abs().sum()) == 0


def test_a_gaussian_mix_never_becomes_exact():
    """Its error at rank n is still above 1, on every one of five draws."""
    sequence = gaussian(200, heads=1, d=16, causal=False)
    setting = mechanism("low_rank", variant="linformer", projection="gaussian", rank=200)
    assert setting.exact_setting(200) is None
    assert all(error(setting.with_dials(seed=seed), sequence) > 1 for seed in range(5))


def test_a_mean_is_of_consecutive_tokens_as_equal_as_can_be():
    trace = mechanism("low_rank", variant="linformer", rank=4).attend(gaussian(10, causal=False)).trace
    sizes = [2, 3, 2, 3]
    expected = torch.zeros(4, 10, dtype=torch.float64)
    start = 0
    for row, size in enumerate(sizes):
        expected[row, start : start + size] = 1 / size
        start += size
    assert_close(trace.e, expected, rtol=1e-15, atol=0)
    assert torch.equal(trace.e, trace.f)


@pytest.mark.parametrize(("variant", "projection"), [x for x in UNMASKED if x[1] != "gaussian"])
def test_padding_changes_nothing(variant, projection):
    """Ragged lengths and padding: the output is that of the real tokens alone, so no zero key takes mass."""
    for padding in ("left", "right", "holes"):
        sequence = gaussian(45, causal=False, padding=padding)
        setting = mechanism("low_rank", variant=variant, projection=projection, rank=7)
        real = sequence.real
        alone = setting.attend(Sequence(q=sequence.q[:, real], k=sequence.k[:, real], v=sequence.v[:, real]))
        attended = setting.attend(sequence)
        assert torch.equal(attended.output[:, real], alone.output)
        assert_close(attended.rows()[:, real][:, :, real], alone.rows(), rtol=1e-12, atol=1e-14)


def test_the_fit_is_the_least_squares_solution():
    """No other F brings the sampled rows closer; with rank ≥ n/4 the sample is every query."""
    sequence = gaussian(40, heads=1, causal=False)
    attended = mechanism("low_rank", variant="linformer", projection="fitted", rank=10).attend(sequence)
    assert attended.trace.sampled == 40
    mixed = (sequence.q @ (attended.trace.e @ sequence.k).mT / 8**0.5).softmax(-1)
    left_over = exact_rows(sequence) - mixed @ attended.trace.f
    assert_close(mixed.mT @ left_over, torch.zeros(1, 10, 40, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_fit_beats_plain_means_on_queries_it_has_not_read():
    for seed in range(3):
        sequence = gaussian(256, heads=1, seed=seed, causal=False)
        fitted, means = (
            mechanism("low_rank", variant="linformer", projection=projection, rank=32) for projection in ("fitted", "mean")
        )
        assert fitted.attend(sequence).trace.sampled == 128
        assert error(fitted, sequence) < 0.8 * error(means, sequence)


# -------------------------------------------------------------------------------------------------------- Nyström


def test_the_inverse_is_a_true_pseudo_inverse_even_for_peaked_heads():
    """The four conditions of Moore and Penrose, where six Newton–Schulz steps are far off."""
    sequence = gaussian(64, scale=4.0, causal=False)
    trace = mechanism("low_rank", variant="nystrom", rank=12).attend(sequence).trace
    assert isinstance(trace, NystromTrace)
    queries, keys = trace.landmarks
    between = (queries @ keys.mT / 8**0.5).softmax(-1)
    inverse = trace.inverse
    size = float(inverse.abs().max())
    assert_close(between @ inverse @ between, between, rtol=0, atol=1e-12 * size)
    assert_close(inverse @ between @ inverse, inverse, rtol=0, atol=1e-11 * size**2)
    for product in (between @ inverse, inverse @ between):
        assert_close(product, product.mT, rtol=0, atol=1e-11 * size)


def test_a_batch_mate_does_not_change_a_head():
    """A start value from the whole tensor's maximum let a batch mate move a head's output by 5.3."""
    sequence = gaussian(64, causal=False)
    scale = torch.tensor([1.0, 50.0], dtype=torch.float64)[:, None, None]
    loud = Sequence(q=sequence.q * scale, k=sequence.k * scale, v=sequence.v)
    setting = mechanism("low_rank", variant="nystrom", rank=8)
    assert torch.equal(setting.attend(loud).output[0], setting.attend(sequence).output[0])


def test_float32_goes_through_float64_where_small_differences_are_inverted():
    sequence = gaussian(150, heads=1, d=16, scale=1.5, causal=False).to(dtype=torch.float32)
    for variant, projection in (("nystrom", "mean"), ("linformer", "fitted")):
        setting = mechanism("low_rank", variant=variant, projection=projection, rank=60)
        coarse, fine = setting.attend(sequence), setting.attend(sequence.to(dtype=torch.float64))
        assert coarse.output.dtype == torch.float32
        assert_close(coarse.output.double(), fine.output, rtol=1e-6, atol=1e-6)
        assert_close(coarse.rows().double(), fine.rows(), rtol=1e-6, atol=1e-6)


def test_landmarks_of_peaked_heads_still_reach_the_limit():
    """At rank n the map is A·A⁺·A: exact up to A's own conditioning, 1e-6 where the paper's iteration is off by far."""
    sequence = gaussian(100, heads=1, scale=2.0, causal=False)
    assert error(mechanism("low_rank", variant="nystrom").exact_setting(100), sequence) < 1e-6


def test_a_cut_off_takes_small_singular_values_for_zero():
    sequence = gaussian(64, heads=1, causal=False)
    trace = mechanism("low_rank", variant="nystrom", rank=20, cutoff=0.1).attend(sequence).trace
    queries, keys = trace.landmarks
    values = torch.linalg.svdvals((queries @ keys.mT / 8**0.5).softmax(-1))[0]
    kept = int((values > 0.1 * values[0]).sum())
    assert 0 < kept < 20
    assert int(torch.linalg.matrix_rank(trace.inverse[0])) == kept


# ------------------------------------------------------------------------------------------ gradients, explanations


@pytest.mark.parametrize(("variant", "projection"), UNMASKED)
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(variant, projection):
    small = gaussian(8, heads=1, d=3, e=2, causal=False)
    setting = mechanism("low_rank", variant=variant, projection=projection, rank=2)

    def output(q, k, v):
        return setting.attend(Sequence(q=q, k=k, v=v)).output

    inputs = [x.clone().requires_grad_(True) for x in (small.q, small.k, small.v)]
    assert torch.autograd.gradcheck(output, inputs, rtol=1e-4, atol=1e-7)


def check_explanation(setting, sequence, said, rank, head, query, key):
    """Every fact of one pair against the definition."""
    facts = said.facts
    assert facts["rank"] == rank
    assert facts["gap"] == pytest.approx(said.weight - said.exact, abs=1e-12)
    close = abs(facts["gap"]) <= max(0.1 * max(said.exact, abs(said.weight)), 1e-3)
    if close:
        assert said.reason is LowRankReason.REBUILT
    elif said.weight < 0:
        assert said.reason is LowRankReason.NEGATIVE
    else:
        assert said.reason is (LowRankReason.LOST if said.weight < said.exact else LowRankReason.INVENTED)
    real = np.flatnonzero(sequence.real.numpy())
    count = len(real)
    if setting.variant == "svd":
        exact = exact_rows(sequence, None, head)[0].numpy()
        values = np.linalg.svd(exact, compute_uv=False)
        assert facts["directions"] == count
        assert facts["kept"] == pytest.approx((values[:rank] ** 2).sum() / (values**2).sum(), rel=1e-9)
        return
    groups = [real[count * r // rank : count * (r + 1) // rank].tolist() for r in range(rank)]
    own = next(r for r, members in enumerate(groups) if key in members)
    if setting.variant == "nystrom":
        assert facts["key_landmark"] == own
        assert query in groups[facts["query_landmark"]]
        assert facts["size"] == len(groups[own])
    elif setting.projection == "gaussian":
        assert facts["keys"] == count
    else:
        assert (facts["group"], facts["first"], facts["last"], facts["size"]) == (
            own,
            groups[own][0],
            groups[own][-1],
            len(groups[own]),
        )
        if setting.projection == "fitted":
            assert facts["sampled"] == min(count, 4 * rank)
    assert f"{said.weight:.3g}" in said.text


@pytest.mark.parametrize(("variant", "projection"), [("svd", "mean"), *UNMASKED])
def test_facts_are_true_for_every_pair(variant, projection):
    setting = mechanism("low_rank", variant=variant, projection=projection, rank=5)
    sequence = gaussian(24, heads=1, padding="holes", causal=variant == "svd")
    attended = setting.attend(sequence)
    reasons = set()
    for query in range(0, 24, 2):
        for key in range(24):
            if bool(sequence.allowed(query)[0, key]):
                said = attended.explain(0, query, key)
                check_explanation(setting, sequence, said, 5, 0, query, key)
                reasons.add(said.reason)
    assert LowRankReason.INVENTED in reasons
    assert (LowRankReason.NEGATIVE in reasons) == (setting.not_stochastic is not None)


def test_names_badges_and_budgets():
    labels = {setting.label: setting.parameters for setting in type(mechanism("low_rank")).variants()}
    assert labels == {
        "SVD (oracle)": "none",
        "Linformer, means": "none",
        "Linformer, Gaussian": "random draw",
        "Linformer, fitted": "fitted here",
        "Nyström": "none",
    }
    assert mechanism("low_rank").with_budget(64, 512).rank == 64
    assert mechanism("low_rank").with_budget(65536, 65536).rank == 4096
    assert mechanism("low_rank", rank=50).attend(gaussian(12)).read_count(0, 3).count == 12


def test_the_decomposition_is_kept_for_the_next_rank_of_the_same_sequence(monkeypatch):
    counted, svd = [], torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *given: counted.append(1) or svd(*given))
    sequence = gaussian(20)
    small, large = (mechanism("low_rank", rank=rank).attend(sequence) for rank in (3, 20))
    assert len(counted) == sequence.h
    assert_close(large.rows(), exact_rows(sequence), rtol=0, atol=1e-12)
    mechanism("low_rank", rank=3).attend(gaussian(20, seed=1))
    assert len(counted) == 2 * sequence.h
    again = mechanism("low_rank", rank=3).attend(sequence)
    assert_close(again.rows(), small.rows(), rtol=0, atol=0)


def test_a_map_is_decomposed_up_to_a_thousand_tokens_only():
    short, long = (run_mechanism(mechanism("low_rank"), gaussian(n, heads=1, dtype=torch.float32)) for n in (40, 1025))
    assert short.refusal is None
    assert long.attended is None
    assert "1,024 tokens" in long.refusal
    assert run_mechanism(mechanism("low_rank", variant="nystrom"), gaussian(1025, heads=1, causal=False)).refusal is None
