"""Tiles of sorted lists: torch's kernel against the plain form and against the definition, where tiles and lists are many."""

import math

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Sequence, mechanism
from longattn_core.contracts.sequence import exact_rows
from longattn_core.numerics.block_attention import kernel_allowed
from longattn_core.numerics.lists import tiles as list_tiles
from longattn_core.numerics.lists.attention import attend_lists
from longattn_core.numerics.lists.sorted_lists import bucketed, by_place
from longattn_core.numerics.lists.tiles import scores_computed
from tests.support.sequences import gaussian

SINGLE = {"rtol": 2e-5, "atol": 2e-5}
"""Float32 against float64: sums of some hundred terms of size 1 in another order."""


def heads(n, *, seed=0, h=2, d=8, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(h, n, d, generator=draw) for _ in range(3))


def three_lists(n, *, buckets, width, causal, skip_self, shared=False, seed=0, real=None, h=2):
    """Two rounds of buckets, sinks and a window: pairs are found twice, and one list is empty for most queries."""
    draw = torch.Generator().manual_seed(seed)
    mine, its = (torch.randint(buckets, (h, 2, n), generator=draw) for _ in range(2))
    real = torch.ones(n, dtype=torch.bool) if real is None else real
    lists = bucketed(mine, mine if shared else its, real).stretches(width, causal=causal, skip_self=skip_self)
    return lists.joined(by_place(real, 3, 4, causal=causal)), real


def defined(q, k, v, lists, real, *, skip_self):
    """Query by query in float64: the union of its stretches, or its own value."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(v)
    for head in range(len(q)):
        for i in real.nonzero().squeeze(-1).tolist():
            found = set()
            for p in range(lists.order.shape[1]):
                found |= set(lists.order[head, p, lists.first[head, p, i] : lists.stop[head, p, i]].tolist())
            keys = sorted(found - ({i} if skip_self else set())) or [i]
            weights = (k[head, keys] @ q[head, i] / math.sqrt(q.shape[-1])).softmax(0)
            out[head, i] = weights @ v[head, keys]
    return out


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("skip_self", [True, False], ids=["others", "all"])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 150])
def test_the_kernel_gives_the_union_of_the_stretches(n, causal, skip_self, monkeypatch):
    """Tiles of 32 keys at most and 4,096 scores: stretches span several tiles, tiles several batches."""
    monkeypatch.setattr(list_tiles, "LONGEST", 32)
    monkeypatch.setattr(list_tiles, "TILE_CELLS", 1 << 12)
    q, k, v = heads(n)
    real = torch.arange(n) % 7 != 3
    lists, real = three_lists(n, buckets=3, width=50, causal=causal, skip_self=skip_self, real=real)
    given = {"real": real, "scale": 1 / math.sqrt(8), "skip_self": skip_self}
    assert kernel_allowed(q, k, v)
    fast, computed = attend_lists(q, k, v, lists, **given)
    fine = [x.double() for x in (q, k, v)]
    assert not kernel_allowed(*fine)
    plain, the_same = attend_lists(*fine, lists, **given)
    expected = defined(q, k, v, lists, real, skip_self=skip_self)
    assert_close(plain, expected, rtol=1e-12, atol=1e-13)
    assert_close(fast.double(), expected, **SINGLE)
    assert computed == the_same == sum(scores_computed(lists))


def test_a_query_without_a_key_gives_its_own_value_and_padding_nothing():
    """And its logsumexp, which the kernel reports as 0, does not outweigh scores far below 0."""
    q, k, v = heads(200, scale=30.0)
    real = torch.arange(200) >= 20
    lists, _ = three_lists(200, buckets=60, width=1, causal=True, skip_self=True, real=real)
    lists = type(lists)(
        order=lists.order,
        rank=lists.rank,
        first=lists.first,
        stop=torch.where(torch.arange(4)[:, None] < 2, lists.stop, lists.first),
    )
    out, _ = attend_lists(q, k, v, lists, real=real, scale=1 / math.sqrt(8), skip_self=True)
    assert_close(out.double(), defined(q, k, v, lists, real, skip_self=True), rtol=1e-3, atol=1e-3)
    alone = real & ~(lists.stop > lists.first).any(1)
    assert bool(alone.any())
    assert torch.equal(out[alone], v[alone])
    assert not bool(out[:, ~real].any())


def test_keys_at_length_one_are_read_so_by_both_forms():
    q, _, v = heads(90)
    lists, real = three_lists(90, buckets=3, width=20, causal=False, skip_self=True, shared=True)
    given = {"real": real, "scale": 1 / math.sqrt(8), "skip_self": True}
    unit = torch.nn.functional.normalize(q, dim=-1)
    expected = defined(q, unit, v, lists, real, skip_self=True)
    assert_close(attend_lists(q, q, v, lists, directions=True, **given)[0].double(), expected, **SINGLE)
    fine = attend_lists(q.double(), q.double(), v.double(), lists, directions=True, **given)[0]
    assert_close(
        fine,
        defined(q, torch.nn.functional.normalize(q.double(), dim=-1), v, lists, real, skip_self=True),
        rtol=1e-12,
        atol=1e-13,
    )


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_pairs_of_every_round_count_once_in_single_precision(causal):
    """Eight rounds over one bucket, and tokens that are all alike: exact attention, however often a pair is found."""
    sequence = gaussian(130, e=8, causal=causal, dtype=torch.float32)
    for given in (sequence, Sequence(q=sequence.q[:, :1].expand(-1, 130, -1), k=sequence.k, v=sequence.v, causal=causal)):
        fine = exact_rows(given.to(dtype=torch.float64)) @ given.v.double()
        for dials in ({"width": 130}, {"order_by": "chunks", "chunk": 65}):
            setting = mechanism("lsh", buckets=1, rounds=8, sinks=5, local=9, **dials)
            assert_close(setting.attend(given).output.double(), fine, **SINGLE)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("chunk", [64, 50])
@pytest.mark.parametrize("n", [512, 500])
def test_reformers_pattern_at_many_chunks(n, chunk, causal):
    """As it is measured: shared queries and keys, chunks, several rounds, with a last chunk that is not whole."""
    sequence = gaussian(n, causal=causal, d=16, e=16, dtype=torch.float32, heads=3)
    setting = mechanism("lsh", order_by="chunks", sharing="shared", rounds=3, chunk=chunk, buckets=8)
    attended, fine = (setting.attend(x) for x in (sequence, sequence.to(dtype=torch.float64)))
    assert torch.equal(attended.trace.buckets, fine.trace.buckets)
    assert_close(attended.output.double(), fine.output, **SINGLE)
    assert attended.cost.multiply_adds == fine.cost.multiply_adds
    assert_close((attended.rows() @ sequence.v).double(), fine.output, **SINGLE)
