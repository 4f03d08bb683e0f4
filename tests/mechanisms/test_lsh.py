"""What is special about hashing: rounds that join exactly, order that does not leak, and reasons that are true."""

import math

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Sequence, mechanism
from longattn_core.contracts.mechanism import Reason
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.lsh.hashing import collision_chance, draw_rotations, hash_vectors
from longattn_core.mechanisms.lsh.map import LSHReason
from longattn_core.numerics.block_attention import kernel_allowed
from longattn_core.numerics.lists import sorted_lists
from longattn_core.numerics.lists import tiles as list_tiles
from tests.oracles.lsh import found_in_round, hashed, oracle
from tests.support.sequences import gaussian

NARROW = (
    {"buckets": 4, "rounds": 3, "width": 3},
    {"buckets": 4, "rounds": 2, "width": 2, "hashing": "hyperplane", "centred": True},
    {"buckets": 2, "rounds": 2, "width": 2, "sharing": "shared"},
    {"buckets": 6, "rounds": 2, "width": 2, "sinks": 2, "local": 3},
    {"buckets": 4, "rounds": 2, "order_by": "chunks", "chunk": 3},
    {"buckets": 2, "rounds": 3, "order_by": "chunks", "chunk": 4, "sharing": "shared", "sinks": 1, "local": 2},
    {"buckets": 64, "rounds": 1, "width": 1},
)


def named(dials):
    return "-".join(f"{key}={value}" for key, value in dials.items())


def gradients_agree(setting, sequence, names=("q", "k", "v")):
    def output(*tensors):
        parts = {"q": sequence.q, "k": sequence.k, "v": sequence.v, **dict(zip(names, tensors, strict=True))}
        return setting.attend(
            Sequence(**parts, causal=sequence.causal, padding=sequence.padding, calibration=sequence.calibration)
        ).output

    return torch.autograd.gradcheck(output, [getattr(sequence, x).clone().requires_grad_(True) for x in names])


# ------------------------------------------------------------------------------------------------------ explanations


def check_explanation(said, setting, sequence, head, query, key, rounds, seen):
    """Hold one explanation against the definition; `rounds` are the lists of buckets of queries and of keys."""
    facts = said.facts
    mine = [of_queries[query] for of_queries in rounds[0]]
    its = [of_keys[key] for of_keys in rounds[1]]
    met = [r for r, pair in enumerate(zip(mine, its, strict=True), 1) if pair[0] == pair[1]]
    finds = [r for r, pair in enumerate(zip(*rounds, strict=True), 1) if key in found_in_round(setting, sequence, *pair, query)]
    real = [j for j in range(sequence.n) if sequence.real[j]]
    shared_self = setting.sharing == "shared" and query == key
    assert said.kept == seen
    assert facts["rounds"] == setting.rounds
    assert facts["buckets"] == setting.buckets
    assert facts["met"] == len(met)
    if not shared_self:
        assert facts["found"] == len(finds)
        assert facts["rounds_found"] == " ".join(map(str, finds))
    assert facts["query_buckets"] == " ".join(map(str, mine))
    assert facts["key_buckets"] == " ".join(map(str, its))
    near = abs(real.index(query) - real.index(key)) < setting.local
    assert facts["local"] == near
    assert facts["sink"] == (key in real[: setting.sinks])
    if "chance_any" in facts:
        assert math.isclose(facts["chance_round"], (1 - facts["angle"] / 180) ** math.log2(setting.buckets), rel_tol=1e-9)
        assert math.isclose(facts["chance_any"], 1 - (1 - facts["chance_round"]) ** setting.rounds, rel_tol=1e-9)
    if said.reason is LSHReason.SAME_BUCKET:
        assert seen
        assert finds
        assert f"bucket {mine[finds[0] - 1]}" in said.text
    elif said.reason is LSHReason.LOCAL:
        assert seen
        assert near
        assert not finds
    elif said.reason is LSHReason.SINK:
        assert seen
        assert not near
        assert not finds
    elif said.reason is Reason.ITSELF:
        assert seen
        assert query == key
        assert not facts["found"] or setting.sharing == "shared"
    elif said.reason is LSHReason.OWN_KEY:
        assert not seen
        assert shared_self
    elif said.reason is LSHReason.DIFFERENT_BUCKETS:
        assert not seen
        assert not met
        assert f"{facts['angle']:.0f}°" in said.text
    else:
        assert not seen
        assert met
        check_distance(said, setting, sequence, rounds, met, query, key)


def check_distance(said, setting, sequence, rounds, met, query, key):
    """A pair that met and was missed: how many keys of the bucket stand nearer, and which chunks they are in."""
    nearer = {}
    for r in met:
        mine, its = rounds[0][r - 1], rounds[1][r - 1]
        span = range(key + 1, query + 1) if key < query else range(query, key)
        if setting.sharing == "shared":
            span = [j for j in span if j != query]
        nearer[r] = sum(bool(sequence.real[j]) and its[j] == mine[query] for j in span)
    assert said.facts["between"] == min(nearer.values())
    assert nearer[said.facts["round"]] == said.facts["between"]
    if setting.order_by == "chunks":
        assert said.reason is LSHReason.OTHER_CHUNK
        mine, its = rounds[0][said.facts["round"] - 1], rounds[1][said.facts["round"] - 1]
        line = sorted((its[j], j) for j in range(sequence.n) if sequence.real[j])
        place = sum(entry < (mine[query], query) for entry in line)
        assert said.facts["key_chunk"] == line.index((its[key], key)) // setting.chunk + 1
        assert said.facts["query_chunk"] == min(place, len(line) - 1) // setting.chunk + 1
    else:
        assert said.reason is LSHReason.OVERFLOWED
        assert said.facts["between"] >= (setting.width if sequence.causal else setting.width // 2)
        assert f" {said.facts['between']} keys" in said.text
        assert f" {setting.width} of" in said.text


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("dials", NARROW, ids=named)
@pytest.mark.slow
def test_every_explanation_is_true(dials, causal):
    setting = mechanism("lsh", seed=1, **dials)
    sequence = gaussian(18, causal=causal, padding="holes", calibrated=False, heads=1, d=4, seed=5)
    attended = setting.attend(sequence)
    _, _, seen = oracle(setting, sequence, attended.trace)
    rounds = hashed(setting, sequence, attended.trace, 0)
    reasons = set()
    for query in range(18):
        for key in range(query + 1 if causal else 18):
            if sequence.real[query] and sequence.real[key]:
                said = attended.explain(0, query, key)
                reasons.add(said.reason)
                check_explanation(said, setting, sequence, 0, query, key, rounds, bool(seen[0, query, key]))
    assert len(reasons) >= 2, reasons


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("padding", ["none", "left", "holes"])
@pytest.mark.parametrize("dials", NARROW, ids=named)
def test_narrow_settings_equal_the_oracle(dials, causal, padding):
    """Where buckets overflow and chunks wrap: the output of the blocks and the weights of the lists, against loops."""
    setting = mechanism("lsh", seed=2, **dials)
    for n in (7, 30):
        sequence = gaussian(n, causal=causal, padding=padding, seed=n, d=4)
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        assert torch.equal(attended.kept(), seen)
        assert_close(attended.rows(), rows, rtol=1e-11, atol=1e-12)
        assert_close(attended.output, output, rtol=1e-11, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- the rounds


def test_a_pair_found_in_every_round_counts_once():
    """Eight rounds over one bucket find each pair eight times: still exact attention."""
    sequence = gaussian(90, causal=False)
    attended = mechanism("lsh", buckets=1, rounds=8, width=90).attend(sequence)
    assert_close(attended.output, exact_rows(sequence) @ sequence.v, rtol=0, atol=1e-12)


def test_a_pair_seen_only_by_looking_back_around_the_end_has_its_own_weight():
    """Without a mask the first chunk looks back at the last one of its round; no constant may enter its logits."""
    sequence = gaussian(40, causal=False, heads=1)
    setting = mechanism("lsh", buckets=1, rounds=3, order_by="chunks", chunk=10)
    rows = setting.attend(sequence).rows(0)[0, 0]
    assert (rows > 0).nonzero().squeeze(-1).tolist() == [*range(10), *range(30, 40)]
    scores = (sequence.k[0] @ sequence.q[0, 0]) / math.sqrt(sequence.d)
    expected = torch.cat([scores[:10], scores[30:]]).softmax(0)
    assert_close(torch.cat([rows[:10], rows[30:]]), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("setting", mechanism("lsh").variants(), ids=lambda s: s.label)
def test_single_precision_weights_sum_to_one(setting):
    """A self mask of −5e4 in float32 costs 4e-4 of the mass; none is used here. 256 additions of 6e-8 are the bound."""
    sequence = gaussian(300, dtype=torch.float32, scale=3.0)
    assert_close(setting.attend(sequence).rows().sum(-1), torch.ones(2, 300), rtol=0, atol=2e-5)


def test_scores_keep_the_factor_of_the_width():
    sequence = gaussian(60, d=16, heads=1)
    rows = mechanism("lsh", buckets=4, rounds=4).attend(sequence).rows(59)[0, 0]
    a, b = (rows > 0).nonzero().squeeze(-1)[[0, -1]].tolist()
    difference = float((sequence.k[0, a] - sequence.k[0, b]) @ sequence.q[0, 59]) / 4
    assert math.isclose(math.log(rows[a] / rows[b]), difference, rel_tol=1e-10)


def test_shared_keys_attend_to_themselves_only_when_alone():
    sequence = gaussian(80, heads=1, d=4)
    for dials in ({"order_by": "chunks", "chunk": 4}, {"width": 2}):
        attended = mechanism("lsh", buckets=16, rounds=1, sharing="shared", **dials).attend(sequence)
        seen = attended.kept()[0]
        alone = seen.sum(-1) == 1
        itself = seen.diagonal()
        assert bool(itself.any())
        assert not bool((itself & ~alone).any())
        assert_close(attended.output[0, itself], sequence.v[0, itself], rtol=0, atol=0)


def test_more_rounds_keep_the_pairs_of_fewer():
    sequence = gaussian(120)
    few, many = (mechanism("lsh", rounds=r, seed=4).attend(sequence) for r in (2, 5))
    assert torch.equal(few.trace.rotations, many.trace.rotations[:2])
    alone = torch.eye(120, dtype=torch.bool) & (few.kept().sum(-1) == 1)[..., None]
    assert not bool((few.kept() & ~many.kept() & ~alone).any())
    assert int(many.kept().sum()) > int(few.kept().sum())


# ----------------------------------------------------------------------------------------------------------- no future


def changed_after(sequence, cut, factor=-3.0):
    kept = torch.arange(sequence.n)[:, None] < cut
    return Sequence(
        **{x: torch.where(kept, getattr(sequence, x), getattr(sequence, x) * factor) for x in ("q", "k", "v")}, causal=True
    )


def test_chunks_of_the_sorted_order_leak_and_the_bucket_does_not():
    sequence = gaussian(256, calibrated=False, d=16, scale=2.0)
    changed = changed_after(sequence, 192)
    moved = {}
    for order in ("chunks", "recent"):
        for sharing in ("separate", "shared"):
            setting = mechanism("lsh", buckets=4, order_by=order, sharing=sharing, chunk=8, width=8)
            before, after = setting.attend(sequence), setting.attend(changed)
            moved[order, sharing] = float((before.output - after.output)[:, :128].abs().max())
            assert (setting.depends_on_future is None) == (order == "recent")
    assert moved["chunks", "separate"] > 0.5, moved
    assert moved["chunks", "shared"] > 0.5, moved
    assert moved["recent", "separate"] < 1e-13, moved
    assert moved["recent", "shared"] < 1e-13, moved


def test_centring_knows_no_later_token():
    sequence = gaussian(100, calibrated=False)
    setting = mechanism("lsh", centred=True)
    before, after = setting.attend(sequence).trace, setting.attend(changed_after(sequence, 60, factor=9.0)).trace
    assert torch.equal(before.buckets[..., :60], after.buckets[..., :60])
    assert torch.equal(before.key_buckets[..., :60], after.key_buckets[..., :60])
    assert "past alone" in before.calibration
    mean = sequence.k[:, :41].mean(1)
    assert_close(before.key_centre[:, 40], mean, rtol=1e-12, atol=1e-13)
    named = setting.attend(gaussian(100)).trace
    assert "calibration for tests" in named.calibration
    assert named.key_centre.shape == (2, 1, 8)


def test_centring_moves_the_buckets_and_never_the_weights():
    far = gaussian(64, calibrated=False)
    far = Sequence(q=far.q, k=far.k + 5.0, v=far.v, causal=True)
    one = {"buckets": 1, "width": 64}
    plain, centred = (mechanism("lsh", centred=c, **one).attend(far).output for c in (False, True))
    assert torch.equal(plain, centred)
    sizes = [mechanism("lsh", centred=c).attend(far).trace.sizes.amax() for c in (False, True)]
    assert int(sizes[0]) == 64
    assert int(sizes[1]) < 40


# ------------------------------------------------------------------------------------------------------- the structure


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize(
    "dials",
    [
        {"width": 300, "buckets": 4},
        {"width": 70, "buckets": 16, "sinks": 5, "local": 90},
        {"order_by": "chunks", "chunk": 150, "buckets": 2},
        {"width": 1, "buckets": 1024, "rounds": 2},
    ],
    ids=named,
)
def test_blocks_and_lists_agree_at_lengths_of_many_tiles(dials, causal, monkeypatch):
    """Queries of one direction, keys of a few: stretches that start far apart, blocks that span many tiles."""
    monkeypatch.setattr(list_tiles, "TILE_CELLS", 3 << 14)
    monkeypatch.setattr(sorted_lists, "VIEW_CELLS", 1 << 16)
    sequence = gaussian(700, causal=causal, padding="holes", d=4, calibrated=False)
    q = torch.where(torch.arange(700)[:, None] % 7 < 6, sequence.q[:, :1], sequence.q)
    skewed = Sequence(q=q, k=sequence.k, v=sequence.v, causal=causal, padding=sequence.padding)
    attended = mechanism("lsh", **dials).attend(skewed)
    assert_close(attended.rows() @ skewed.v, attended.output, rtol=1e-11, atol=1e-12)
    assert attended.rows().count_nonzero() == attended.kept().sum()


def test_short_lists_and_full_rows_give_the_same_views(monkeypatch):
    sequence = gaussian(200, padding="holes")
    attended = mechanism("lsh", buckets=32, width=5, local=2, sinks=1).attend(sequence)
    rows = []
    for price in (0, 1000):
        monkeypatch.setattr(sorted_lists, "GATHER_PRICE", price)
        rows.append(attended.rows())
    assert_close(rows[0], rows[1], rtol=1e-12, atol=1e-14)


def test_sinks_and_window_count_real_tokens():
    sequence = gaussian(60, padding="left", heads=1)
    seen = mechanism("lsh", buckets=1024, rounds=1, sinks=3, local=4).attend(sequence).kept(59)[0, 0]
    assert bool(seen[20:23].all())
    assert bool(seen[56:].all())
    assert not bool(seen[:20].any())
    holes = gaussian(60, padding="holes", heads=1)
    seen = mechanism("lsh", buckets=1024, rounds=1, local=4).attend(holes).kept(59)[0, 0]
    assert bool(seen[[59, 57, 56, 55]].all())


def test_padding_lies_behind_buckets_that_hold_no_key():
    """A query may fall into a bucket above all keys': it finds nothing there, and no padding either."""
    real = torch.tensor([True, True, False, False, True])
    queries, keys = torch.ones(1, 1, 5, dtype=torch.int64), torch.zeros(1, 1, 5, dtype=torch.int64)
    for causal in (True, False):
        lists = sorted_lists.bucketed(queries, keys, real).stretches(3, causal=causal, skip_self=False)
        assert lists.widest == [0]


def test_trace_shows_the_sort():
    sequence = gaussian(50, padding="holes")
    for sharing in ("separate", "shared"):
        trace = mechanism("lsh", sharing=sharing, buckets=6, rounds=3).attend(sequence).trace
        assert trace.rotations.shape == (3, 8, 3)
        real = int(sequence.real.sum())
        for buckets, order in ((trace.buckets, trace.order), (trace.key_buckets, trace.key_order)):
            assert bool((buckets[..., ~sequence.real] == -1).all())
            walked = buckets.gather(-1, order)[..., :real] * 50 + order[..., :real]
            assert bool((walked.diff() > 0).all())
            assert torch.equal(order.sort(-1).values, torch.arange(50).expand_as(order))
        assert torch.equal(trace.sizes.sum(-1), torch.full((2, 3), real))
        for head, r, bucket in ((0, 0, 0), (1, 2, 5)):
            assert trace.sizes[head, r, bucket] == (trace.key_buckets[head, r] == bucket).sum()
    assert torch.equal(trace.buckets, trace.key_buckets)


@pytest.mark.parametrize(
    "dials", [{"width": 2}, {"width": 2, "sinks": 1, "local": 2, "centred": True}, {"order_by": "chunks", "chunk": 2}], ids=named
)
@pytest.mark.slow
def test_gradients_equal_finite_differences(dials):
    for causal in (True, False):
        sequence = gaussian(6, causal=causal, heads=1, d=2, e=1, padding="holes")
        assert gradients_agree(mechanism("lsh", buckets=4, rounds=2, seed=1, **dials), sequence)


@pytest.mark.slow
def test_gradients_of_shared_keys_reach_queries_and_values():
    sequence = gaussian(6, heads=1, d=2, e=1)
    setting = mechanism("lsh", buckets=2, rounds=2, sharing="shared")
    assert gradients_agree(setting, sequence, ("q", "v"))
    assert not setting.differentiable


# ------------------------------------------------------------------------------------------------------- hashing itself


def two_vectors(angle, d=16):
    x = torch.zeros(1, 2, d, dtype=torch.float64)
    x[0, 0, 3] = 2.0
    x[0, 1, 3], x[0, 1, 7] = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return x


@pytest.mark.parametrize("angle", [10.0, 40.0, 90.0, 150.0])
@pytest.mark.parametrize("buckets", [2, 16])
def test_hyperplanes_collide_as_the_angle_says(angle, buckets):
    """(1 − θ/π)^bits within 4.5 standard errors of 20,000 rounds, and at least once in 4 rounds as 1 − (1 − p)⁴."""
    rounds = 20_000
    rotations = draw_rotations(7, "hyperplane", rounds, 16, buckets)
    found = hash_vectors(two_vectors(angle), None, rotations, "hyperplane")[0]
    same = (found[:, 0] == found[:, 1]).double()
    chance = collision_chance(angle, buckets)
    assert math.isclose(chance, (1 - angle / 180) ** math.log2(buckets), rel_tol=1e-12)
    assert abs(float(same.mean()) - chance) < 4.5 * math.sqrt(chance * (1 - chance) / rounds)
    any_of_four = 1 - (1 - chance) ** 4
    measured = float(same.view(-1, 4).amax(-1).mean())
    assert abs(measured - any_of_four) < 4.5 * math.sqrt(any_of_four * (1 - any_of_four) / (rounds / 4)) + 1e-12


def test_the_cross_polytope_collides_less_the_wider_the_angle():
    rotations = draw_rotations(3, "cross_polytope", 20_000, 16, 8)
    rates = []
    for angle in (0.0, 15.0, 45.0, 75.0, 90.0, 120.0, 180.0):
        found = hash_vectors(two_vectors(angle), None, rotations, "cross_polytope")[0]
        rates.append(float((found[:, 0] == found[:, 1]).double().mean()))
    assert rates[0] == 1
    assert rates[-1] == 0
    assert rates == sorted(rates, reverse=True)
    # At a right angle all buckets are alike: 1/8 within 4.5 standard errors.
    assert abs(rates[4] - 1 / 8) < 4.5 * math.sqrt(7 / 64 / 20_000)


def test_length_and_precision_do_not_change_a_bucket():
    sequence = gaussian(500, d=64, dtype=torch.float32)
    setting = mechanism("lsh")
    coarse, fine = setting.attend(sequence).trace, setting.attend(sequence.to(dtype=torch.float64)).trace
    assert torch.equal(coarse.buckets, fine.buckets)
    scaled = Sequence(q=sequence.q * 1024, k=sequence.k / 256, v=sequence.v, causal=True)
    assert torch.equal(coarse.key_buckets, setting.attend(scaled).trace.key_buckets)


def test_the_bucket_dial_shows_the_number_in_use():
    assert [mechanism("lsh", buckets=b).buckets for b in (1, 2, 3, 15, 16)] == [1, 2, 4, 16, 16]
    assert [mechanism("lsh", buckets=b, hashing="hyperplane").buckets for b in (1, 3, 17, 1024)] == [1, 4, 32, 1024]


@pytest.mark.parametrize("setting", mechanism("lsh").variants(), ids=lambda s: s.label)
def test_a_budget_is_not_exceeded(setting):
    sequence = gaussian(200)
    for keys in (1, 2, 5, 17, 64, 150, 200)[setting.order_by == "chunks" :]:
        seen = setting.with_budget(keys, 200).attend(sequence).kept()
        assert int(seen.sum(-1).max()) <= keys
    assert float(seen.sum()) >= 0.98 * 2 * 200 * 201 / 2


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("dials", NARROW, ids=named)
def test_the_kernel_and_the_plain_form_agree(dials, causal):
    """Float32 without gradients goes through torch's kernel, with gradients through the plain form."""
    sequence = gaussian(300, d=8, e=8, causal=causal, padding="holes", dtype=torch.float32)
    learning = Sequence(
        q=sequence.q.clone().requires_grad_(True),
        k=sequence.k,
        v=sequence.v,
        causal=causal,
        padding=sequence.padding,
        calibration=sequence.calibration,
    )
    assert kernel_allowed(sequence.q, sequence.k, sequence.v)
    assert not kernel_allowed(learning.q, learning.k, learning.v)
    setting = mechanism("lsh", **dials)
    fast, plain = setting.attend(sequence).output, setting.attend(learning).output.detach()
    assert_close(fast, plain, rtol=1e-5, atol=1e-5)  # float32: sums in another order
