"""FAVOR+: unbiased features, a ratio that neither overflows nor vanishes, and a past that the future cannot move."""

import math
from functools import cache

import pytest
import torch
from scipy.special import gammaln, hyp1f1, iv
from torch.testing import assert_close

from longattn_core import Sequence, mechanism
from longattn_core.contracts.mechanism import Attended, Reason
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.favor.deviation import relative_deviation
from longattn_core.mechanisms.favor.fast import BOUNDED, HIGHEST, ROWS, Directions, gather_all, gather_past
from longattn_core.mechanisms.favor.features import FeatureMap, draw_projection
from longattn_core.mechanisms.favor.map import FavorReason, FavorTrace
from longattn_core.mechanisms.favor.plain import Sums, ratio
from tests.oracles.favor import features, oracle
from tests.support.sequences import gaussian

UNBIASED = ("positive", "hyperbolic", "trigonometric")
DRAWN = (*UNBIASED, "relu", "elu", "exponential")
ALL = (*DRAWN, "hedgehog")
LIKE = torch.zeros(1, dtype=torch.float64)


@cache
def draws(count, m, d, orthogonal, regularised=False):
    """Many independent projections, one under the other."""
    settings = {"m": m, "d": d, "orthogonal": orthogonal, "regularised": regularised, "like": LIKE}
    return torch.cat([draw_projection(seed=seed, **settings) for seed in range(count)])


def single_products(kind, kernel, projection, x, y):
    """The mechanism's own product of features, direction by direction, as if each were drawn alone."""
    feature_map = FeatureMap(kind=kind, kernel=kernel, epsilon=1e-3, projection=projection)
    width = len(x) ** 0.25  # `of` divides by it
    query = feature_map.of((x * width)[None], head=0, keys=False)
    key = feature_map.of((y * width)[None], head=0, keys=True)
    product = (query.shifted(torch.tensor(0.0)) * key.shifted(torch.tensor(0.0)))[0] * len(projection)
    return product if kind == "positive" else product[: len(projection)] + product[len(projection) :]


def estimates(kind, kernel, projections, m, x, y):
    """The estimate of the kernel between x and y from each draw of m directions."""
    return single_products(kind, kernel, projections, x, y).view(-1, m).mean(1)


def kernel_value(kernel, x, y):
    return math.exp(float(x @ y)) if kernel == "softmax" else math.exp(-float((x - y).square().sum()) / 2)


def assert_mean_is(values, expected, deviations=5.0):
    """The mean lies within five standard errors of what is expected: one run in two million fails by chance."""
    error = float(values.std() / len(values) ** 0.5)
    assert abs(float(values.mean()) - expected) < deviations * error, (float(values.mean()), expected, error)
    assert error < 0.02 * abs(expected), "too few draws to say anything"


# ------------------------------------------------------------------------------------------------- the draw


@pytest.mark.parametrize(("d", "count"), [(16, 3000), (64, 1000)])
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["+1", "-1"])
@pytest.mark.parametrize("kernel", ["softmax", "gaussian"])
@pytest.mark.parametrize("kind", UNBIASED)
def test_orthogonal_features_are_unbiased_along_vectors_of_ones(kind, kernel, sign, d, count):
    """QR without the sign fix is 26 % off here; the interval is five standard errors, each under 2 %."""
    x = torch.full((d,), sign * 0.5 / d**0.5, dtype=torch.float64)
    y = -x if kind == "trigonometric" else x  # sines and cosines know only x − y
    assert_mean_is(estimates(kind, kernel, draws(count, d, d, True), d, x, y), kernel_value(kernel, x, y))


@pytest.mark.parametrize(("m", "d"), [(5, 16), (40, 16)], ids=["m < d", "m > d"])
@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("kind", UNBIASED)
def test_features_are_unbiased_at_any_number(kind, m, d, orthogonal):
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, d, generator=source, dtype=torch.float64) / (2 * d**0.5)
    assert_mean_is(estimates(kind, "softmax", draws(1000, m, d, orthogonal), m, x, y), kernel_value("softmax", x, y))


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("m", [5, 16, 40])
def test_regularised_directions_estimate_the_kernel_of_the_sphere(m, orthogonal):
    """With m ≠ d and a wrong length the estimate would be half of the kernel, or twice."""
    d = 16
    x = torch.full((d,), 0.5 / d**0.5, dtype=torch.float64)
    reach = math.sqrt(d) * 1.0
    ratio_to_softmax = math.exp(gammaln(d / 2)) * (2 / reach) ** (d / 2 - 1) * iv(d / 2 - 1, reach) * math.exp(-0.5)
    assert 0.95 < ratio_to_softmax < 1
    projections = draws(1000, m, d, orthogonal, True)
    assert_close(projections.norm(dim=-1), torch.full((1000 * m,), 4.0, dtype=torch.float64), rtol=1e-12, atol=0)
    assert_mean_is(estimates("positive", "softmax", projections, m, x, x), ratio_to_softmax * math.exp(0.25))


def test_orthogonal_features_spread_less():
    """The mean squared error of positive features falls by the closed form of orthogonal directions, m = d = 16."""
    d = 16
    x = torch.full((d,), 0.5 / d**0.5, dtype=torch.float64)
    independent, orthogonal = (
        float(estimates("positive", "softmax", draws(3000, d, d, kind), d, x, x).var()) for kind in (False, True)
    )
    gain = (d - 1) / d * math.exp(-0.5) * (math.e - float(hyp1f1(d, d / 2, 0.5)))
    assert gain > 0
    assert orthogonal == pytest.approx(independent - gain, rel=0.15)


def test_directions_are_orthogonal_in_blocks_and_fewer_are_the_first_of_more():
    wide = draw_projection(seed=3, m=20, d=8, orthogonal=True, regularised=False, like=LIKE)
    unit = wide / wide.norm(dim=-1, keepdim=True)
    for block in (unit[:8], unit[8:16], unit[16:]):
        assert_close(block @ block.mT, torch.eye(len(block), dtype=torch.float64), rtol=0, atol=1e-12)
    for orthogonal in (True, False):
        settings = {"seed": 3, "d": 8, "orthogonal": orthogonal, "regularised": False, "like": LIKE}
        assert torch.equal(draw_projection(m=12, **settings), draw_projection(m=20, **settings)[:12])
    assert not torch.equal(wide, draw_projection(seed=4, m=20, d=8, orthogonal=True, regularised=False, like=LIKE))


def test_lengths_follow_the_chi_law():
    """E χ²_d = d with variance 2d; over 4,000 lengths the mean lies within five standard errors."""
    d, m = 16, 4000
    squares = draw_projection(seed=0, m=m, d=d, orthogonal=True, regularised=False, like=LIKE).square().sum(-1)
    assert abs(float(squares.mean()) - d) < 5 * math.sqrt(2 * d / m)
    assert abs(float(squares.var()) - 2 * d) < 5 * 2 * d * math.sqrt(14 / m)


@pytest.mark.parametrize("regularised", [False, True])
@pytest.mark.parametrize("kind", UNBIASED)
def test_predicted_deviation_is_what_is_found(kind, regularised):
    """One feature a draw, 200,000 draws, where the spread can be measured: ‖x+y‖² and ‖x−y‖² at most 1.3."""
    d, m = 8, 200_000
    source = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, d, generator=source, dtype=torch.float64) * 0.22
    both, apart = float((x + y).square().sum()), float((x - y).square().sum())
    projection = draw_projection(seed=0, m=m, d=d, orthogonal=False, regularised=regularised, like=LIKE)
    found = float((single_products(kind, "softmax", projection, x, y) / math.exp(float(x @ y)) - 1).square().mean().sqrt())
    said = relative_deviation(kind, m=1, d=d, sum_norm=both, difference_norm=apart, regularised=regularised)
    assert found == pytest.approx(said, rel=0.03)
    hundred = relative_deviation(kind, m=100, d=d, sum_norm=both, difference_norm=apart, regularised=False)
    one = relative_deviation(kind, m=1, d=d, sum_norm=both, difference_norm=apart, regularised=False)
    assert hundred == pytest.approx(one / 10, rel=1e-9)


def test_predicted_deviation_is_the_papers_formula():
    sum_norm, apart, m = 3.0, 1.2, 32
    softmax = math.exp((sum_norm - apart) / 4)
    positive = math.exp(sum_norm) * softmax**2 * (1 - math.exp(-sum_norm)) / m
    papers = {
        "positive": positive,
        "hyperbolic": (1 - math.exp(-sum_norm)) / 2 * positive,
        "trigonometric": math.exp(sum_norm) * softmax**-2 * (1 - math.exp(-apart)) ** 2 / (2 * m),
    }
    for kind, squared in papers.items():
        said = relative_deviation(kind, m=m, d=64, sum_norm=sum_norm, difference_norm=apart, regularised=False)
        assert said == pytest.approx(math.sqrt(squared) / softmax, rel=1e-9)
    assert relative_deviation("relu", m=m, d=64, sum_norm=1, difference_norm=1, regularised=False) is None
    for kind in UNBIASED:
        for regularised in (True, False):
            far = relative_deviation(kind, m=m, d=64, sum_norm=4e4, difference_norm=4e4, regularised=regularised)
            assert far >= 1


# ---------------------------------------------------------------------------------------------- the definition


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kernel", ["softmax", "gaussian"])
@pytest.mark.parametrize("kind", UNBIASED)
def test_every_draw_and_kernel_follows_the_definition(kind, kernel, causal):
    for regularised, orthogonal, m in ((True, True, 5), (False, False, 12), (True, False, 9)):
        setting = mechanism(
            "favor", variant=kind, kernel=kernel, regularised=regularised, orthogonal=orthogonal, features=m, seed=5
        )
        sequence = gaussian(33, causal=causal, padding="holes", scale=0.7)
        attended = setting.attend(sequence)
        output, rows, _ = oracle(setting, sequence, attended.trace)
        assert attended.trace.projection.shape == (m, 8)
        assert_close(attended.output, output, rtol=1e-8, atol=1e-9)
        assert_close(attended.rows(), rows, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", ["positive", "trigonometric"])
def test_long_sequences_go_through_many_pieces(kind, causal):
    """1,100 tokens are two pieces of 1,024 and a ragged chunk of 64; with holes, the real tokens move up."""
    sequence = gaussian(1100, heads=1, causal=causal, padding="holes", scale=0.7)
    setting = mechanism("favor", variant=kind, features=10)
    attended = setting.attend(sequence)
    of_queries, of_keys = (
        torch.stack([features(setting, attended.trace, x, 0, keys=side) for x in tokens])
        for side, tokens in ((False, sequence.q[0]), (True, sequence.k[0]))
    )
    weights = (of_queries @ of_keys.mT) * sequence.allowed()
    weights = weights / weights.sum(-1, keepdim=True).where(sequence.real[:, None], 1.0)
    assert_close(attended.output[0], weights @ sequence.v[0], rtol=1e-8, atol=1e-8)
    with torch.no_grad():
        assert_close(setting.attend(sequence).output, attended.output, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ALL)
def test_log_normaliser_is_the_sum_of_estimates(kind):
    sequence = gaussian(20, heads=1, padding="right")
    setting = mechanism("favor", variant=kind, features=16)
    trace = setting.attend(sequence).trace
    assert isinstance(trace, FavorTrace)
    for i in range(20):
        if not sequence.real[i]:
            assert trace.log_normaliser[0, i] == -math.inf
            assert not trace.negative[0, i]
            continue
        query = features(setting, trace, sequence.q[0, i], 0, keys=False)
        total = sum(
            float(query @ features(setting, trace, sequence.k[0, j], 0, keys=True)) for j in range(i + 1) if sequence.real[j]
        )
        assert float(trace.log_normaliser[0, i]) == pytest.approx(math.log(abs(total)), abs=1e-8)
        assert bool(trace.negative[0, i]) == (total < 0)


# ------------------------------------------------------------------------------------------------ the pitfalls


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ALL)
def test_a_later_key_does_not_move_one_bit_of_the_past(kind, dtype):
    """A maximum over all keys moved earlier outputs by 1.37 when one later key was scaled by 8."""
    sequence = gaussian(200, d=16, dtype=dtype)
    setting = mechanism("favor", variant=kind, features=64)
    before = setting.attend(sequence).output
    for later, factor in ((137, 8.0), (130, 1e3), (199, -30.0), (64, 0.0)):
        k, q, v = sequence.k.clone(), sequence.q.clone(), sequence.v.clone()
        k[:, later] *= factor
        q[:, later:] *= 3
        v[:, later:] += 100
        after = setting.attend(Sequence(q=q, k=k, v=v, causal=True, calibration=sequence.calibration)).output
        assert torch.equal(before[:, :later], after[:, :later]), (later, factor)
        assert not torch.equal(before[:, later:], after[:, later:])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kernel", ["softmax", "gaussian"])
@pytest.mark.parametrize("kind", ["positive", "hyperbolic"])
def test_the_fast_way_agrees_with_the_plain_one(kind, kernel, causal):
    setting = mechanism("favor", variant=kind, kernel=kernel, features=24)
    # More than two pieces of the fast way, and a last one that is not full.
    sequence = gaussian(2 * ROWS + 77, heads=2, d=16, causal=causal, padding="holes")
    plain, fast = setting.attend(sequence), setting.attend(sequence.to(dtype=torch.float32))
    assert_close(fast.output.double(), plain.output, rtol=1e-4, atol=1e-5)
    for found, expected in ((fast.trace.log_normaliser, plain.trace.log_normaliser), (fast.reference, plain.reference)):
        assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


def test_the_references_that_a_draw_lowers_are_told_as_they_are():
    """With 64 channels ‖ω‖²/2 is beyond what a feature may reach under a causal mask, and all are lowered."""
    sequence = gaussian(150, heads=2, d=64, causal=True)
    setting = mechanism("favor", features=64)
    plain, fast = setting.attend(sequence), setting.attend(sequence.to(dtype=torch.float32))
    assert Directions.of(plain.trace.projection, both_signs=False, gaussian=False).highest > HIGHEST
    assert_close(fast.reference.double(), plain.reference, rtol=1e-5, atol=1e-4)
    assert_close(fast.trace.log_normaliser.double(), plain.trace.log_normaliser, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("ordered", [True, False], ids=["long keys first", "long keys last"])
def test_a_reference_that_rises_and_queries_that_are_long(ordered):
    """Keys whose exponents lie hundreds apart from tile to tile, and queries whose features must be brought down first."""
    sequence = gaussian(2 * ROWS + 77, heads=2, d=16, causal=False).to(dtype=torch.float32)
    q, k = sequence.q.clone(), sequence.k.clone()
    k[:, :ROWS] *= 20.0 if ordered else 0.2
    k[:, ROWS:] *= 0.2 if ordered else 20.0
    q[:, ROWS : 2 * ROWS] *= 5
    sequence = Sequence(q=q, k=k, v=sequence.v)
    setting = mechanism("favor", features=24)
    directions = Directions.of(setting.attend(sequence).trace.projection, both_signs=False, gaussian=False)
    reach = [float(x.norm(dim=-1).max()) * directions.longest for x in (q[:, :ROWS], q[:, ROWS : 2 * ROWS])]
    assert reach[0] < BOUNDED < reach[1]
    found = gather_all(directions, sequence.q, sequence.k, sequence.v)
    plain = setting.attend(sequence.to(dtype=torch.float64))
    assert not found.underflowed.any()
    assert_close(found.output.double(), plain.output, rtol=1e-4, atol=1e-5)
    assert_close(found.log_sum.double(), plain.trace.log_normaliser, rtol=1e-5, atol=1e-4)
    assert_close(found.reference.double(), plain.reference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_what_sinks_in_single_precision_is_left_to_the_plain_way(causal):
    sequence = gaussian(150, heads=2, d=16, causal=causal).to(dtype=torch.float32)
    q, k = sequence.q.clone(), sequence.k.clone()
    if causal:
        # The first keys are so long that their features all but vanish: whoever sees only them gathers next to nothing.
        k[:, :100] *= 22
    else:
        # All keys on one side, and every fifth query of a head on the other: no feature is large for both.
        aside = torch.ones(16) / 4
        k = 0.1 * k + 60 * aside
        q[0, ::5] = 0.1 * q[0, ::5] - 60 * aside
    sequence = Sequence(q=q, k=k, v=sequence.v, causal=causal)
    setting = mechanism("favor", features=24)
    directions = Directions.of(setting.attend(sequence).trace.projection, both_signs=False, gaussian=False)
    underflowed = (gather_past if causal else gather_all)(directions, sequence.q, sequence.k, sequence.v).underflowed
    assert underflowed.any() and not underflowed.all()
    plain = setting.attend(sequence.to(dtype=torch.float64))
    fast = setting.attend(sequence)
    assert bool(torch.isfinite(fast.output).all())
    assert_close(fast.output.double(), plain.output, rtol=2e-3, atol=2e-4)
    assert_close(fast.trace.log_normaliser.double(), plain.trace.log_normaliser, rtol=1e-5, atol=1e-3)


def test_no_epsilon_swallows_the_signal():
    """With an ε of 1e-4 behind a maximum, N(0, 1) heads of width 64 come within 0.046 of a plain mean."""
    sequence = gaussian(256, heads=1, d=64, e=64, causal=False)
    output = mechanism("favor", features=256).attend(sequence).output
    mean = sequence.v.mean(1, keepdim=True).expand_as(output)
    assert float((output - mean).abs().max()) > 1
    assert float((output - mean).norm() / output.norm()) > 0.5


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", [*UNBIASED, "relu", "elu", "exponential"])
def test_float32_holds_at_the_norms_of_real_heads(kind, causal):
    """‖x‖² + ‖y‖² of 67, as real heads have: float32 within 1e-3 of the float64 oracle, row by row."""
    source = torch.Generator().manual_seed(2)
    d, n = 64, 150
    scale = math.sqrt(67 / 2 / d**0.5)
    q, k, v = torch.randn(3, 1, n, d, generator=source, dtype=torch.float64)
    sequence = Sequence(q=q * scale, k=k * scale, v=v, causal=causal).to(dtype=torch.float32)
    setting = mechanism("favor", variant=kind, features=64)
    attended = setting.attend(sequence)
    output, _, _ = oracle(setting, sequence, attended.trace)
    error = (attended.output.double() - output).norm(dim=-1) / output.norm(dim=-1)
    # Sums of sines and cosines cancel: a row whose sum is nearly 0 has no more digits than its terms.
    assert float(error.quantile(0.9) if kind == "trigonometric" else error.max()) < 1e-3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["positive", "hyperbolic", "exponential"])
def test_features_that_underflow_still_make_shares(kind, dtype, causal):
    """At norms far beyond any number format the rows are the softmax of logarithms, and sum to 1."""
    sequence = gaussian(90, heads=1, causal=causal, scale=60.0, dtype=dtype)
    setting = mechanism("favor", variant=kind, features=24)
    attended = setting.attend(sequence)
    x, y = (t[0].double() / 8**0.25 for t in (sequence.q, sequence.k))
    directions = attended.trace.projection.double()
    if kind == "hyperbolic":
        directions = torch.cat((directions, -directions))
    along = [z @ directions.mT for z in (x, y)]
    if kind == "exponential":
        along = [torch.logaddexp(z, torch.tensor(math.log(1e-3), dtype=torch.float64)) for z in along]
    else:
        along = [z - t.square().sum(-1, keepdim=True) / 2 for z, t in zip(along, (x, y), strict=True)]
    logarithm = (along[0][:, None] + along[1][None]).logsumexp(-1)
    rows = logarithm.masked_fill(~sequence.allowed(), -math.inf).softmax(-1)
    # An exponent of thousands holds four digits after the point in float32.
    tolerance = 1e-8 if dtype == torch.float64 else 2e-2
    assert_close(attended.rows()[0].double(), rows, rtol=0, atol=1e-8 if dtype == torch.float64 else 1e-6)
    assert_close(attended.output[0].double(), rows @ sequence.v[0].double(), rtol=0, atol=tolerance)


def test_weights_that_sink_below_float64_are_found_again():
    """A query and a key whose features peak apart, with no other key: one key has the whole weight, not none."""
    k = torch.zeros(1, 3, 2, dtype=torch.float64)
    k[0, :, 0] = torch.tensor([-900.0, -1000.0, -905.0])
    q = torch.zeros_like(k)
    q[0, :, 0] = 900.0
    sequence = Sequence(q=q, k=k, v=torch.eye(3, dtype=torch.float64)[None], causal=True)
    attended = mechanism("favor", features=64, seed=1).attend(sequence)
    assert_close(attended.rows() @ sequence.v, attended.output, rtol=1e-9, atol=1e-9)
    assert_close(attended.rows().sum(-1), torch.ones(1, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_pooled_map_where_the_future_outweighs_the_past_beyond_float64():
    """The two factors of the map then have no common scale, and the pooled map is summed row by row."""
    sequence = gaussian(64, heads=1, scale=0.5)
    k = sequence.k.clone()
    k[:, :40] *= 150
    k[:, 40:] *= 0.1
    wide = Sequence(q=sequence.q, k=k, v=sequence.v, causal=True)
    attended = mechanism("favor", features=16).attend(wide)
    pooled = attended.pooled(shape=(8, 8))
    assert bool(torch.isfinite(pooled).all())
    cells = attended.rows().view(1, 8, 8, 8, 8)
    assert_close(pooled, cells.mean((2, 4)), rtol=1e-9, atol=1e-12)
    assert_close(attended.pooled(shape=(8, 8), reduce="max"), cells.amax((2, 4)), rtol=1e-9, atol=1e-12)
    plain = mechanism("favor", features=16).attend(sequence)
    assert_close(plain.pooled(shape=(8, 8)), Attended._pooled(plain, *[list(range(0, 65, 8))] * 2, "mean", torch.tensor([0])))


def test_hopeless_estimates_are_shown_and_not_masked():
    """N(0, 1) heads of width 64 at 256 features: relative deviation 186 for the average pair, and an error above 1."""
    sequence = gaussian(256, heads=1, d=64, e=16, causal=False)
    attended = mechanism("favor").attend(sequence)
    typical = relative_deviation("positive", m=256, d=64, sum_norm=16, difference_norm=16, regularised=False)
    assert typical == pytest.approx(186, rel=0.01)
    exact = exact_rows(sequence) @ sequence.v
    assert float((attended.output - exact).norm() / exact.norm()) > 1


def test_a_sum_below_zero_divides_as_it_is():
    sequence = gaussian(60, heads=2, d=4, scale=2.5, causal=False)
    setting = mechanism("favor", variant="trigonometric", features=4)
    attended = setting.attend(sequence)
    assert bool(attended.trace.negative.any())
    assert bool(torch.isfinite(attended.output).all())
    assert float(attended.rows().min()) < 0
    output, _, _ = oracle(setting, sequence, attended.trace)
    assert_close(attended.output, output, rtol=1e-7, atol=1e-7)


def test_a_sum_of_exactly_zero_leaves_the_query_its_own_value():
    total = torch.tensor([[3.0, 0.0], [3.0, 2.0], [3.0, -2.0]])
    sums = Sums(total=total, scale=torch.zeros(3), reference=torch.zeros(1))
    own = torch.tensor([[7.0], [7.0], [7.0]])
    assert ratio(sums, own).squeeze(-1).tolist() == [7.0, 1.5, -1.5]


def test_estimates_that_cancel_to_exactly_zero_are_explained():
    """cos 0 + cos π is 0 to the bit: both queries are left with their own value."""
    setting = mechanism("favor", variant="trigonometric", kernel="gaussian", features=1)
    zeros = torch.zeros(1, 2, 1, dtype=torch.float64)
    direction = float(setting.attend(Sequence(q=zeros, k=zeros, v=zeros)).trace.projection)
    k = torch.tensor([[[0.0], [math.pi / direction]]], dtype=torch.float64)
    v = torch.tensor([[[5.0], [9.0]]], dtype=torch.float64)
    attended = setting.attend(Sequence(q=zeros, k=k, v=v))
    assert torch.equal(attended.output, v)
    assert torch.equal(attended.rows()[0], torch.eye(2, dtype=torch.float64))
    assert attended.explain(0, 1, 1).reason is Reason.ITSELF


# ---------------------------------------------------------------------------------------- gradients, learned maps


@pytest.mark.parametrize(
    ("kind", "causal"), [*((kind, causal) for kind in DRAWN for causal in (True, False)), ("hedgehog", True)]
)
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(kind, causal):
    """Learned maps count as constants, and are: under a mask they are fitted on the calibration."""
    small = gaussian(5, heads=1, d=2, e=1, causal=causal, scale=0.5)
    setting = mechanism("favor", variant=kind, features=3, steps=1)

    def output(q, k, v):
        return setting.attend(Sequence(q=q, k=k, v=v, causal=causal, calibration=small.calibration)).output

    inputs = [x.clone().requires_grad_(True) for x in (small.q, small.k, small.v)]
    assert torch.autograd.gradcheck(output, inputs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["positive", "hyperbolic", "trigonometric", "relu"])
@pytest.mark.slow
def test_rows_carry_the_gradient_too(kind):
    small = gaussian(6, heads=1, d=4, causal=True)
    setting = mechanism("favor", variant=kind, features=8)

    def rows(q, k):
        return setting.attend(Sequence(q=q, k=k, v=small.v, causal=True)).rows()

    assert torch.autograd.gradcheck(rows, [x.clone().requires_grad_(True) for x in (small.q, small.k)], rtol=1e-5, atol=1e-7)


def test_learned_maps_are_fitted_on_what_the_trace_names():
    sequence = gaussian(60, heads=2)
    setting = mechanism("favor", variant="hedgehog", features=16, steps=4)
    first = setting.attend(sequence).trace
    assert first.maps.shape == (2, 2, 8, 8)
    assert first.projection.shape == (8, 8)
    assert "calibration for tests" in first.calibration
    other = Sequence(q=sequence.q + 1, k=sequence.k * 2, v=sequence.v, causal=True, calibration=sequence.calibration)
    assert torch.equal(first.maps, setting.attend(other).trace.maps)
    bare = Sequence(q=sequence.q, k=sequence.k, v=sequence.v, causal=True)
    assert "drawn from the seed" in setting.attend(bare).trace.calibration
    assert torch.equal(setting.attend(bare).trace.maps[:, 0], setting.attend(bare).trace.maps[:, 1])
    unmasked = setting.attend(sequence.masked(causal=False)).trace
    assert unmasked.calibration == "this sequence"
    assert not torch.equal(unmasked.maps, first.maps)
    drawn = mechanism("favor").attend(sequence).trace
    assert drawn.maps is None
    assert drawn.calibration == "nothing is fitted"


def test_padding_takes_no_part_in_the_fit():
    sequence = gaussian(60, causal=False, padding="holes")
    setting = mechanism("favor", variant="hedgehog", features=8, steps=5)
    real = sequence.real
    short = Sequence(q=sequence.q[:, real], k=sequence.k[:, real], v=sequence.v[:, real])
    assert torch.equal(setting.attend(sequence).trace.maps, setting.attend(short).trace.maps)


def test_fitting_brings_the_map_closer_than_the_start_and_than_random_features():
    sequence = gaussian(200, heads=1, d=16, causal=False, scale=1.5)
    exact = exact_rows(sequence)

    def distance(**dials):
        return float((mechanism("favor", features=64, **dials).attend(sequence).rows() - exact).abs().sum(-1).mean() / 2)

    fitted = distance(variant="hedgehog")
    assert fitted < 0.8 * distance(variant="hedgehog", steps=0)
    assert fitted < 0.8 * distance()


def test_learned_maps_can_be_fitted_in_inference_mode():
    sequence = gaussian(30, causal=False)
    setting = mechanism("favor", variant="hedgehog", features=8, steps=5)
    with torch.inference_mode():
        inside = setting.attend(sequence).output.clone()
    assert torch.equal(inside, setting.attend(sequence).output)


# -------------------------------------------------------------------------------------------------- what it says


def check_explanation(setting, sequence, attended, said, head, query, key):
    """Every fact of one pair against the definition."""
    trace = attended.trace
    x, y = sequence.q[head, query] / sequence.d**0.25, sequence.k[head, key] / sequence.d**0.25
    product = float(
        features(setting, trace, sequence.q[head, query], head, keys=False)
        @ features(setting, trace, sequence.k[head, key], head, keys=True)
    )
    kernel = kernel_value(setting.kernel if setting.variant in UNBIASED else "softmax", x, y)
    facts = said.facts
    assert facts["kernel"] == pytest.approx(kernel, rel=1e-9)
    assert facts["log_kernel"] == pytest.approx(math.log(kernel), abs=1e-9)
    assert facts["estimate"] == pytest.approx(product, rel=1e-6, abs=1e-9 * kernel)
    assert facts["ratio"] == pytest.approx(product / kernel, rel=1e-6, abs=1e-9)
    assert facts["sum_norm"] == pytest.approx(float((x + y).square().sum()), rel=1e-9)
    assert facts["features"] == attended.read_count(head, query).count
    assert ("deviation" in facts) == (setting.variant in UNBIASED)
    if setting.variant == "hedgehog":
        assert said.reason is FavorReason.LEARNED
    elif setting.variant not in UNBIASED:
        assert said.reason is FavorReason.OTHER_KERNEL
    elif said.weight < 0:
        assert said.reason is FavorReason.NEGATIVE
    else:
        bounds = {FavorReason.STEADY: (0, 0.5), FavorReason.NOISY: (0.5, 10), FavorReason.HOPELESS: (10, math.inf)}
        low, high = bounds[said.reason]
        assert low <= facts["deviation"] <= high
    if setting.variant == "positive" and not setting.regularised:
        papers = math.sqrt(math.expm1(facts["sum_norm"]) / setting.features)
        assert facts["deviation"] == pytest.approx(papers, rel=1e-9)
    assert f"{said.weight:.3g}" in said.text or f"{facts['estimate']:.3g}" in said.text


@pytest.mark.parametrize("kind", ALL)
def test_facts_are_true_for_every_pair(kind):
    for kernel in ("softmax", "gaussian"):
        setting = mechanism("favor", variant=kind, features=12, kernel=kernel)
        sequence = gaussian(18, heads=1, padding="left")
        attended = setting.attend(sequence)
        for query in range(18):
            for key in range(18):
                if bool(sequence.allowed(query)[0, key]):
                    said = attended.explain(0, query, key)
                    check_explanation(setting, sequence, attended, said, 0, query, key)


def test_every_kind_of_estimate_has_its_word():
    seen = set()
    for kind, scale in (("positive", 0.1), ("positive", 1.0), ("positive", 3.0), ("trigonometric", 1.0), ("relu", 1.0)):
        attended = mechanism("favor", variant=kind, features=16).attend(gaussian(12, heads=1, d=16, scale=scale))
        seen |= {attended.explain(0, 11, key).reason for key in range(12)}
    seen.add(mechanism("favor", variant="hedgehog", features=4).attend(gaussian(3)).explain(0, 2, 1).reason)
    assert seen == set(FavorReason)


def test_names_badges_and_budgets():
    assert mechanism("favor").label == "FAVOR+ positive"
    assert mechanism("favor").parameters == "random draw"
    assert mechanism("favor", variant="hedgehog").parameters == "fitted here"
    assert mechanism("favor").with_budget(64, 512).features == 64
    assert mechanism("favor").with_budget(65536, 65536).features == 4096
    assert mechanism("favor", variant="trigonometric", features=10).attend(gaussian(5)).read_count(0, 4).count == 20
    assert mechanism("favor", variant="hedgehog", features=10).attend(gaussian(5)).read_count(0, 4).count == 10
    for dials in ({"kernel": "gaussian"}, {"regularised": True}, {"variant": "relu"}, {"variant": "hedgehog"}, {}):
        assert mechanism("favor", **dials).no_exact_setting.endswith(".")
