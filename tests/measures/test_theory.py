"""Closed forms against Monte Carlo, within four standard errors of a fixed draw, and against other implementations."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.theory import dilution, features, hashing, positions, rank
from longattn_core.numerics.draws import haar_blocks
from longattn_core.sequences.synthetic import synthetic
from tests.support.statistics import STANDARD_ERRORS, assert_mean, generator_numbers

DRAWS = 40_000


# ------------------------------------------------------------------------------------------------ dilution


def needle_weights(n, lead, noise, draws=2000):
    """The needle's weight in independent rows, from the softmax's definition."""
    others = np.exp(noise * generator_numbers(f"needle {n} {noise}", draws, n - 1)).sum(-1)
    return math.exp(lead) / (math.exp(lead) + others)


@pytest.mark.parametrize(("n", "lead", "noise"), [(64, 3.0, 0.5), (256, 5.0, 1.0), (2048, 8.0, 1.5), (4096, 11.0, 2.0)])
def test_the_needle_keeps_the_predicted_weight_where_the_formula_holds(n, lead, noise):
    assert dilution.weight_holds(n, noise)
    weights = needle_weights(n, lead, noise)
    predicted = float(dilution.needle_weight(lead, n, noise))
    # Jensen: the mean of 1/(1 + S) is off from 1/(1 + E S) by about w(1 − w)² times the relative variance of S.
    assert_mean(weights, predicted, slack=predicted * (1 - predicted) ** 2 * math.expm1(noise**2) / (n - 1))
    assert abs(float(weights.mean()) - predicted) < 0.02


def test_the_formula_is_within_two_percent_points_wherever_it_says_that_it_holds():
    for noise in (0.3, 1.0, 1.5, 2.0):
        least = math.ceil(1 + dilution.SETTLED * math.expm1(noise**2))
        assert dilution.weight_holds(least, noise)
        assert not dilution.weight_holds(least - 1, noise)
        lead = float(dilution.needed_lead(0.5, least, noise))
        weights = needle_weights(least, lead, noise, draws=4000)
        error = STANDARD_ERRORS * weights.std() / math.sqrt(4000)
        assert abs(weights.mean() - 0.5) < 0.02 + error


def test_a_few_keys_dominate_beyond_the_formula():
    lead = float(dilution.needed_lead(0.5, 256, 4.0))
    assert not dilution.weight_holds(256, 4.0)
    assert dilution.few_keys_dominate(256, 4.0)
    assert float(dilution.needle_weight(lead, 256, 4.0)) == pytest.approx(0.5, rel=1e-12)
    assert_mean(needle_weights(256, lead, 4.0), 0.77, slack=0.01)
    assert not dilution.few_keys_dominate(256, 1.0)


def test_the_synthetic_needle_obeys_the_law():
    weights = []
    for seed in range(15):
        sequence = synthetic("needle", n=1024, heads=16, d=8, e=1, lead=6.5, noise=1.0, seed=seed).sequence()
        weights.append(exact_rows(sequence, 1023)[:, 0, 16])
    predicted = float(dilution.needle_weight(6.5, 1024, 1.0))
    assert_mean(torch.cat(weights), predicted, slack=predicted * (1 - predicted) ** 2 * math.expm1(1) / 1023)


def test_the_needed_lead_keeps_the_weight():
    for noise in (0.0, 1.2):
        lead = dilution.needed_lead([0.1, 0.5, 0.9], 700, noise)
        np.testing.assert_allclose(dilution.needle_weight(lead, 700, noise), [0.1, 0.5, 0.9], rtol=1e-12)
    # Ten times the text needs ln 10 more.
    grown = dilution.needed_lead(0.5, 10_001) - dilution.needed_lead(0.5, 1001)
    assert float(grown) == pytest.approx(math.log(10), rel=1e-12)
    with pytest.raises(ValueError, match="between 0 and 1"):
        dilution.needed_lead(1.0, 10)


def test_the_chance_that_no_noise_outranks_the_needle():
    noise = 1.3 * generator_numbers("outrank", 4000, 99)
    for lead in (2.0, 3.0, 4.0):
        leads = (noise.max(-1) < lead).astype(float)
        assert_mean(leads, float(dilution.chance_of_leading(lead, 100, 1.3)))
    np.testing.assert_array_equal(dilution.chance_of_leading([1.0, -1.0], 100, 0.0), [1.0, 0.0])
    assert float(dilution.chance_of_leading(-3.0, 1, 1.0)) == 1.0
    # Against one noise key it is the normal distribution itself.
    assert float(dilution.chance_of_leading(1.3, 2, 1.3)) == pytest.approx(0.5 * (1 + math.erf(math.sqrt(0.5))), rel=1e-12)


def test_uniform_weights_and_the_entropy_bound():
    np.testing.assert_array_equal(dilution.uniform_weight([1, 2, 4]), [1.0, 0.5, 0.25])
    assert float(dilution.entropy_bound(512)) == pytest.approx(math.log(512), rel=1e-15)
    assert float(dilution.needle_weight(3.0, 1)) == 1.0
    with pytest.raises(ValueError, match="at least one token, found 0"):
        dilution.uniform_weight(0)


# ------------------------------------------------------------------------------------------------- hashing


def pairs_at(angle, d, name, draws=1):
    x = np.zeros(d)
    y = np.zeros(d)
    x[0], y[0], y[1] = 1.0, math.cos(angle), math.sin(angle)
    return x, y


@pytest.mark.parametrize("angle", [0.2, 1.0, 2.0, 3.0])
def test_hyperplanes_collide_as_the_angle_says(angle):
    x, y = pairs_at(angle, 6, "bits")
    planes = generator_numbers("planes", DRAWS, 3, 6)
    same = (planes @ x > 0) == (planes @ y > 0)
    assert_mean(same[:, 0].astype(float), float(hashing.same_bit(angle)))
    assert_mean(same.all(-1).astype(float), float(hashing.bits_collide(angle, 3)))
    assert_mean(same.any(-1).astype(float), float(hashing.found_at_least_once(hashing.same_bit(angle), 3)))


@pytest.mark.parametrize(
    ("buckets", "angle"), [(b, angle) for b in (2, 4, 16, 64) for angle in (0.1, 0.8, 1.4)] + [(2, 2.5), (4, 2.5), (8, 2.2)]
)
def test_cross_polytopes_collide_as_the_integral_says(angle, buckets):
    # Projections of two unit vectors on Gaussian columns are normals of correlation cos θ, whatever d is.
    u = generator_numbers(f"polytope {buckets}", DRAWS, buckets // 2)
    v = math.cos(angle) * u + math.sin(angle) * generator_numbers(f"other {buckets}", DRAWS, buckets // 2)
    a, b = (np.concatenate((x, -x), axis=-1).argmax(-1) for x in (u, v))
    assert_mean((a == b).astype(float), float(hashing.cross_polytope_collision(angle, buckets)))


def test_a_cross_polytope_of_two_buckets_is_a_hyperplane():
    angles = np.linspace(0, math.pi, 41)
    np.testing.assert_allclose(hashing.cross_polytope_collision(angles, 2), hashing.same_bit(angles), rtol=0, atol=1e-9)


@pytest.mark.parametrize("buckets", [4, 64, 4096])
def test_the_collision_integral_has_converged(buckets, monkeypatch):
    angles = np.array([1e-3, 0.05, 0.6, 1.5, math.pi / 2, 2.2])
    coarse = hashing.cross_polytope_collision(angles, buckets)
    points, weights = np.polynomial.legendre.leggauss(240)
    monkeypatch.setattr(hashing, "_POINTS", points)
    monkeypatch.setattr(hashing, "_WEIGHTS", weights)
    np.testing.assert_allclose(coarse, hashing.cross_polytope_collision(angles, buckets), rtol=1e-6)
    # At a right angle nothing is shared: every bucket has the same chance.
    assert float(coarse[4]) == pytest.approx(1 / buckets, rel=1e-7)


def test_collision_at_the_ends_and_bad_arguments():
    np.testing.assert_array_equal(hashing.cross_polytope_collision([0.0, math.pi], 8), [1.0, 0.0])
    np.testing.assert_allclose(hashing.cross_polytope_exponent([0.0, math.pi / 2]), [0.0, 1.0], atol=1e-15)
    np.testing.assert_array_equal(hashing.found_at_least_once([0.0, 1.0], 4), [0.0, 1.0])
    with pytest.raises(ValueError, match="even number of buckets, at least 2, found 7"):
        hashing.cross_polytope_collision(1.0, 7)
    with pytest.raises(ValueError, match="an angle must lie in 0 … π"):
        hashing.same_bit(3.5)


# -------------------------------------------------------------------------------------------- rank


def test_eckart_young_is_the_error_of_the_best_cut_and_no_other_is_better():
    a = generator_numbers("map", 30, 20)
    u, s, v = np.linalg.svd(a, full_matrices=False)
    for k in (0, 1, 7, 19, 20, 25):
        cut = (u[:, :k] * s[:k]) @ v[:k]
        tail = float(rank.eckart_young_tail(s, k))
        assert ((a - cut) ** 2).sum() == pytest.approx(tail, rel=1e-10, abs=1e-20)
        assert float(rank.truncation_error(s[::-1], k)) == pytest.approx(math.sqrt(tail / (a**2).sum()), rel=1e-10)
    for trial in range(50):
        basis = np.linalg.qr(generator_numbers(f"other basis {trial}", 20, 7))[0]
        assert ((a - a @ basis @ basis.T) ** 2).sum() > float(rank.eckart_young_tail(s, 7))
    assert float(rank.truncation_error(np.zeros(4), 1)) == 0.0
    with pytest.raises(ValueError, match="at least 0, found -1"):
        rank.eckart_young_tail(s, -1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("variance", [0.5, 1.0])
def test_a_gaussian_linformer_never_becomes_exact(shared, variance):
    n, d, errors = 384, 64, []
    for seed in range(10):
        q, k, v = (generator_numbers(f"{name} {seed}", n, d) for name in "qkv")
        e = generator_numbers(f"e {seed}", n, n) / math.sqrt(n)
        f = e if shared else generator_numbers(f"f {seed}", n, n) / math.sqrt(n)
        scale = math.sqrt(variance / d)
        exact = torch.from_numpy(q @ k.T * scale).softmax(-1).numpy() @ v
        projected = torch.from_numpy(q @ (e @ k).T * scale).softmax(-1).numpy() @ (f @ v)
        errors.append(np.linalg.norm(projected - exact) / np.linalg.norm(exact))
    # The law is of leading order in n and d; what is left at this size is its slack.
    assert_mean(errors, float(rank.gaussian_linformer_error(variance, shared=shared)), slack=0.03)


# -------------------------------------------------------------------------------------- random features


def vectors(d, square_sum, angle=1.1):
    """x and y of equal length at an angle, with ‖x + y‖² as asked."""
    length = math.sqrt(square_sum / (2 + 2 * math.cos(angle)))
    x, y = pairs_at(angle, d, "features")
    return length * x, length * y


def estimates(x, y, omega):
    """φ(x)ᵀφ(y) for each row of draws: omega is [draws, m, d]. From the definitions of the feature maps."""
    halves = math.exp(-(x @ x + y @ y) / 2)
    ox, oy = omega @ x, omega @ y
    positive = halves * np.exp(ox + oy).mean(-1)
    hyperbolic = halves * 0.5 * (np.exp(ox + oy) + np.exp(-ox - oy)).mean(-1)
    trigonometric = math.exp((x @ x + y @ y) / 2) * (np.sin(ox) * np.sin(oy) + np.cos(ox) * np.cos(oy)).mean(-1)
    return {"positive": positive, "hyperbolic": hyperbolic, "trigonometric": trigonometric}


MSE = {"positive": features.mse_positive, "hyperbolic": features.mse_hyperbolic, "trigonometric": features.mse_trigonometric}


@pytest.mark.parametrize("kind", MSE)
@pytest.mark.parametrize("square_sum", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("m", [1, 4])
def test_features_are_unbiased_and_err_as_the_closed_form_says(kind, square_sum, m):
    assert square_sum <= features.CONFIRMABLE
    x, y = vectors(4, square_sum)
    sample = estimates(x, y, generator_numbers(f"omega {m}", DRAWS * 5 // m, m, 4))[kind]
    kernel = float(features.kernel(x, y))
    assert_mean(sample, kernel)
    assert_mean((sample - kernel) ** 2, float(MSE[kind](x, y, m)))


def orthogonal(d, m, draws):
    """Blocks of m orthogonal ω with lengths of their own from χ_d: [draws, m, d]."""
    blocks = haar_blocks(3, "orthogonal", draws * d, d).numpy().reshape(draws, d, d)[:, :m]
    return blocks * np.linalg.norm(generator_numbers(f"lengths {d} {m}", draws, m, d), axis=-1, keepdims=True)


@pytest.mark.parametrize(("d", "m"), [(4, 2), (4, 4), (8, 5), (5, 3)])
@pytest.mark.parametrize("kind", ["positive", "hyperbolic"])
def test_orthogonal_features_are_unbiased_and_err_less_by_the_closed_form(d, m, kind):
    x, y = vectors(d, 0.6)
    sample = estimates(x, y, orthogonal(d, m, 20_000))[kind]
    kernel = float(features.kernel(x, y))
    assert_mean(sample, kernel)
    assert_mean((sample - kernel) ** 2, float(MSE[kind](x, y, m)) - float(features.orthogonal_gain(x, y, m)))


@pytest.mark.parametrize(("d", "m"), [(4, 4), (5, 3)])
def test_the_gain_is_what_two_orthogonal_features_have_in_common(d, m):
    x, y = vectors(d, 1.0)
    each = math.exp(-(x @ x + y @ y) / 2) * np.exp(orthogonal(d, m, 40_000) @ (x + y))
    # The mean of the products of two different features, block by block.
    products = (each.sum(-1) ** 2 - (each**2).sum(-1)) / (m * (m - 1))
    kernel = float(features.kernel(x, y))
    shared = float(features.orthogonal_gain(x, y, m)) * m / (m - 1)
    assert_mean(products, kernel**2 - shared)
    # Independent features would have kernel² here: the test can tell the two apart.
    assert shared > 2 * STANDARD_ERRORS * products.std() / math.sqrt(len(products))


@pytest.mark.parametrize(("d", "blocks"), [(16, 6000), (64, 1000)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_haar_blocks_are_unbiased_along_vectors_of_ones(d, blocks, sign):
    # A QR decomposition without its sign fix leans to one side exactly here.
    z = sign * np.full(d, math.sqrt(2.0 / d))
    directions = haar_blocks(11, "unbiased", blocks * d, d).numpy().reshape(blocks, d, d)
    lengths = np.linalg.norm(generator_numbers(f"chi {d}", blocks, d, d), axis=-1)
    assert_mean(np.exp(lengths * (directions @ z) - 1.0).mean(-1), 1.0)


def test_the_gain_of_orthogonality_needs_one_block():
    x, y = vectors(4, 1.0)
    assert float(features.orthogonal_gain(x, y, 1)) == 0.0
    with pytest.raises(ValueError, match="m at most d = 4, found 5"):
        features.orthogonal_gain(x, y, 5)


def test_the_gain_is_finite_and_below_the_error_far_from_the_origin():
    x, y = vectors(64, 64.0)
    gain = float(features.orthogonal_gain(x, y, 64))
    assert 0 < gain < float(features.mse_positive(x, y, 64))


def test_the_ratio_is_that_of_the_two_errors():
    for length in (0.5, 1.0, 2.0):
        for angle in (0.3, 1.5, 2.8):
            x, y = (length * part for part in pairs_at(angle, 3, "ratio"))
            ratio = float(features.mse_trigonometric(x, y, 8) / features.mse_positive(x, y, 8))
            assert float(features.mse_ratio(length, angle)) == pytest.approx(ratio, rel=1e-10)
    # Where the kernel is small trigonometric features lose, where it is large they win.
    assert float(features.mse_ratio(1.0, 3.0)) > 100
    assert float(features.mse_ratio(1.0, 0.1)) < 0.01
    assert float(features.mse_ratio(1.0, 0.0)) == 0.0


def test_unit_gaussian_heads_of_width_64_are_hopeless():
    assert float(features.relative_deviation(16.0, 256)) == pytest.approx(186, abs=0.5)


@pytest.mark.parametrize(("d", "z"), [(4, 0.7), (4, 1.9), (16, 1.0), (16, 2.0), (64, 1.2)])
def test_the_regularised_kernel_is_that_of_the_sphere(d, z):
    directions = generator_numbers(f"sphere {d}", 200_000, d)
    first = math.sqrt(d) * directions[:, 0] / np.linalg.norm(directions, axis=-1)
    assert_mean(np.exp(z * first - z * z / 2), float(features.smreg_ratio(z, d)))


def test_the_regularised_kernel_has_one_value_however_it_is_computed():
    for d in (2, 16, 64, 256):
        for z in (0.01, 1.0, math.sqrt(2) - 1e-9, math.sqrt(2) + 1e-9, 3.0, 8.0):
            # The series of the Bessel function, term by term in logarithms: all of them are positive.
            k = np.arange(2000)
            steps = np.log(d * z * z / 4) - np.log(k[1:]) - np.log(d / 2 + k[1:] - 1)
            terms = np.concatenate(([0.0], np.cumsum(steps)))
            series = math.exp(terms.max() + math.log(np.exp(terms - terms.max()).sum()) - z * z / 2)
            assert float(features.smreg_ratio(z, d)) == pytest.approx(series, rel=1e-9)
    assert float(features.smreg_ratio(0.0, 64)) == 1.0
    assert ive(31, 64.0) > 0


def test_the_regularised_kernel_is_below_softmax_and_its_bound_needs_bounded_scores():
    z = np.linspace(0, 12, 200)
    for d in (2, 16, 64):
        ratio = features.smreg_ratio(z, d)
        assert (ratio <= 1 + 1e-12).all()
        assert (np.diff(ratio) < 0).all()
    assert float(features.smreg_ratio(8.0, 64)) == pytest.approx(4e-4, rel=0.2)
    assert float(features.smreg_bound(64)) == pytest.approx(0.5, rel=1e-12)
    assert float(features.smreg_ratio(8.0, 64)) < float(features.smreg_bound(64))
    assert float(features.smreg_ratio(1.0, 64)) > float(features.smreg_bound(64))


# ------------------------------------------------------------------------------------------------ positions


def test_alibi_slopes_are_the_papers():
    np.testing.assert_allclose(positions.alibi_slopes(8), [2.0**-h for h in range(1, 9)], rtol=1e-15)
    np.testing.assert_allclose(positions.alibi_slopes(16)[:2], [2**-0.5, 2**-1.0], rtol=1e-15)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (32, 512), (16, 64)])
def test_t5_buckets_are_those_of_the_reference_implementation(causal, buckets, furthest):
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    distance = torch.arange(-700, 701)
    expected = modeling.T5Attention._relative_position_bucket(
        -distance, bidirectional=not causal, num_buckets=buckets, max_distance=furthest
    )
    found = positions.t5_bucket(distance.numpy(), buckets=buckets, furthest=furthest, causal=causal)
    np.testing.assert_array_equal(found, expected.numpy())


def test_rotary_frequencies_and_their_stretching():
    plain = positions.rotary_frequencies(64)
    assert plain[0] == 1.0
    assert plain[16] == pytest.approx(0.01, rel=1e-12)
    np.testing.assert_allclose(positions.interpolated(plain, 4.0), plain / 4, rtol=1e-15)
    stretched = positions.rotary_frequencies(64, positions.ntk_base(64, 4.0))
    assert stretched[0] == 1.0
    assert stretched[-1] == pytest.approx(plain[-1] / 4, rel=1e-12)
    yarn = positions.yarn_frequencies(plain, 4.0, trained=2048)
    turns = 2048 * plain / (2 * np.pi)
    np.testing.assert_array_equal(yarn[turns > 32], plain[turns > 32])
    np.testing.assert_allclose(yarn[turns < 1], plain[turns < 1] / 4, rtol=1e-15)
    between = (turns > 1) & (turns < 32)
    assert between.any()
    assert ((yarn > plain / 4) & (yarn < plain))[between].all()
    np.testing.assert_allclose(positions.yarn_temperature([0.5, 1.0, math.e]), [1.0, 1.0, 1.1], rtol=1e-12)
    with pytest.raises(ValueError, match="width above 2"):
        positions.ntk_base(2, 4.0)


def test_sinusoids_turn_with_the_distance():
    table = positions.sinusoids(50, 8)
    assert table.shape == (50, 8)
    np.testing.assert_allclose(table[3, :2], [math.sin(3), math.cos(3)], rtol=1e-12)
    # Products of two rows depend on their distance only.
    np.testing.assert_allclose(table[10] @ table[17], table[31] @ table[38], rtol=1e-12)
