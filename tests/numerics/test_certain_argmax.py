"""The largest of many products: single precision may answer only where double precision must agree."""

import pytest
import torch

from longattn_core.mechanisms.lsh.hashing import draw_rotations, hash_vectors
from longattn_core.mechanisms.routed.fitting import nearest_cluster, spherical_means, unit
from longattn_core.numerics.certain_argmax import certain_argmax, nearest_direction, rounding


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close_calls(table, count, gap, seed=0):
    """Float32 vectors, as far along one of the table's columns as along another but for `gap` of their length."""
    draw = torch.Generator().manual_seed(seed)
    unit_columns = table / table.norm(dim=0)
    first, second = (torch.randint(table.shape[1], (count,), generator=draw) for _ in range(2))
    second = torch.where(first == second, (second + 1) % table.shape[1], second)
    a, b = table.T[first], table.T[second]
    x = unit_columns.T[first] + unit_columns.T[second]
    across = a - b
    x = x - ((x * across).sum(-1, keepdim=True) / across.square().sum(-1, keepdim=True)) * across
    x = x + gap * x.norm(dim=-1, keepdim=True) * across / across.norm(dim=-1, keepdim=True)
    return x.float()


@pytest.mark.parametrize("columns", [1, 2, 3, 64, 128, 500])
def test_the_place_is_that_of_the_largest(columns):
    products = random(300, columns).abs().float()
    place, value, sure = certain_argmax(products.clone(), 0.0)
    assert torch.equal(place[sure], products.argmax(-1)[sure])
    assert float(sure.float().mean()) > 0.95
    assert float((value / products.amax(-1) - 1).abs().max()) <= 2.0**-22 * 2 ** (columns - 1).bit_length()


def test_ties_and_numbers_that_are_none_are_not_sure():
    rows = torch.tensor([[1.0, 1.0, 0.5], [0.0, 0.0, 0.0], [torch.inf, 1.0, 2.0], [torch.nan, 3.0, 1.0], [3.0, 1.0, 2.0]])
    place, _, sure = certain_argmax(rows, 0.0)
    assert sure.tolist() == [False, False, False, False, True]
    assert bool(((place >= 0) & (place < 3)).all())


@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("hashing", ["cross_polytope", "hyperplane"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_hashes_of_close_calls_are_those_of_double_precision(hashing, rounds, gap):
    """Vectors that stand between two axes, or nearly on a hyperplane, within what a float32 can hold."""
    rotations = draw_rotations(5, hashing, rounds, 64, 64)
    table = rotations[0]
    if hashing == "cross_polytope":
        x = close_calls(table, 4000, gap)
    else:
        x, normal = random(4000, 64), table[:, 2] / table[:, 2].norm()
        x = (x - (x @ normal - gap)[:, None] * normal).float()
    for scale in (1.0, 2.0**60, 2.0**-76, 2.0**-80, 2.0**-130):
        given = (x * scale)[None]
        assert torch.equal(hash_vectors(given, None, rotations, hashing), hash_vectors(given.double(), None, rotations, hashing))


@pytest.mark.parametrize("hashing", ["cross_polytope", "hyperplane"])
@pytest.mark.parametrize("buckets", [1, 2, 16])
def test_hashes_of_the_odd_and_of_the_centred(hashing, buckets):
    x = random(2, 300, 8).float()
    x[0, :4], x[0, 4:8] = 0.0, x[0, 8:12]
    x[1, 0] *= 1e30
    rotations, centre = draw_rotations(1, hashing, 2, 8, buckets), random(2, 1, 8, seed=3)
    for middle in (None, centre, centre.expand(-1, 300, -1), x.double()):
        found = hash_vectors(x, middle, rotations, hashing)
        assert torch.equal(found, hash_vectors(x.double(), middle, rotations, hashing))
    halves = x[1:, 1:].half()
    assert torch.equal(hash_vectors(halves, None, rotations, hashing), hash_vectors(halves.double(), None, rotations, hashing))


@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-7, 1e-6])
def test_the_nearest_direction_is_that_of_double_precision(gap):
    directions = torch.nn.functional.normalize(random(40, 32), dim=-1)
    x = close_calls(directions.T, 5000, gap)
    fine = unit(x, None)
    expected = (fine @ directions.T).argmax(-1)
    assert torch.equal(nearest_direction(fine.float(), fine.__getitem__, directions), expected)
    middle = random(32, seed=4)
    shifted = (x.double() + middle)[None]
    found = nearest_cluster(shifted, middle[None], directions[None])[0]
    assert torch.equal(found, (unit(shifted[0], middle) @ directions.T).argmax(-1))


def test_what_the_bound_leaves_in_doubt_is_computed_again():
    """Rounding hardly ever reaches its bound, so it is asked for here and not waited for."""
    directions, asked = torch.eye(256, dtype=torch.float64)[:2], []
    fine = torch.tensor([[1.0, 1 - 1e-5], [1.0, 1 - 1e-3]], dtype=torch.float64) / 2**0.5 @ directions
    nearest_direction(fine.float(), lambda rows: asked.extend(rows.tolist()) or fine[rows], directions)
    assert 1e-5 < 2 * rounding(256) < 1e-4
    assert asked == [0]


def test_few_are_computed_again():
    """Of unit Gaussian vectors: otherwise the two precisions together would cost more than double alone."""
    directions = torch.nn.functional.normalize(random(128, 64), dim=-1)
    fine, asked = torch.nn.functional.normalize(random(8000, 64, seed=1), dim=-1), []
    nearest_direction(fine.float(), lambda rows: asked.append(len(rows)) or fine[rows], directions)
    assert 0 < sum(asked) < 80
    assert rounding(64) < 1e-5


def test_the_fit_is_that_of_double_precision():
    x = torch.nn.functional.normalize(random(2, 900, 16), dim=-1)
    found = spherical_means(x, 30, 0)
    for head in range(2):
        centre = found.directions[head]
        mine = (x[head] @ centre.T).argmax(-1)
        assert float((x[head] * centre[mine]).sum(-1).mean()) >= float(found.agreement[head, -1]) - 1e-12
