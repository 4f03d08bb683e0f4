"""What is special about routing: nothing lost, nothing seen ahead, and a router that means something."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.testing import assert_close

from longattn_core import Refused, Sequence, mechanism
from longattn_core.contracts.mechanism import Reason
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.routed.capsules import CapsuleReason
from longattn_core.mechanisms.routed.clusters import ClusterReason
from longattn_core.mechanisms.routed.fitting import RIDGE, evenly, logistic_regression, spherical_means
from longattn_core.mechanisms.routed.router import with_top
from longattn_core.mechanisms.routed.router_map import RouterMap, RouterReason
from tests.oracles.routed import first_fitted, keys_of, oracle
from tests.support.sequences import gaussian

PATHS = ("local", "strided", "clusters", "exact")
NARROW = (
    {"width": 4, "sinks": 1, "clusters": 3},
    {"width": 3, "sinks": 5, "clusters": 4, "top_k": 1},
    {"width": 2, "clusters": 2, "paths": ("clusters", "exact"), "weights": "random", "top_k": 1},
    {"width": 3, "paths": PATHS, "weights": "random", "top_k": 2, "centred": False},
    {"variant": "clusters", "width": 2, "clusters": 3},
    {"variant": "clusters", "width": 3, "clusters": 5, "centred": False},
    {"variant": "capsules", "capsules": 3, "iterations": 2},
)


def named(dials):
    return "-".join(f"{key}={value}" for key, value in dials.items())


def rerun(setting, sequence, **tensors):
    parts = {"q": sequence.q, "k": sequence.k, "v": sequence.v, **tensors}
    return setting.attend(Sequence(**parts, causal=sequence.causal, padding=sequence.padding, calibration=sequence.calibration))


# ------------------------------------------------------------------------------------------------------ explanations


def check_explanation(said, setting, sequence, trace, query, key, rows, seen):
    facts = said.facts
    if setting.variant == "capsules":
        assert said.reason is CapsuleReason.SHARED_CAPSULE
        couplings = trace.couplings[-1][0]
        length = (couplings.mT @ sequence.v[0]).norm(dim=-1)
        through = couplings[query] * couplings[key] * length / (1 + length**2)
        assert facts["capsule"] == int(through.argmax())
        assert math.isclose(facts["share"], float(through.max() / through.sum()), rel_tol=1e-9)
        assert math.isclose(facts["length"], float((length**2 / (1 + length**2))[facts["capsule"]]), rel_tol=1e-9)
        assert facts["query_coupling"] == float(couplings[query, facts["capsule"]])
        assert facts["key_coupling"] == float(couplings[key, facts["capsule"]])
    elif setting.variant == "clusters":
        check_cluster(said, setting, sequence, trace, query, key, seen)
    else:
        carrying = []
        for p, name in enumerate(setting.paths):
            keys = keys_of(name, setting, sequence, trace.centroids, 0, query)
            assert facts[f"{name}_sees"] == (key in keys)
            assert facts[f"{name}_share"] == float(trace.probabilities[0, query, p])
            carrying += [name] if key in keys and facts[f"{name}_share"] > 0 else []
        assert math.isclose(sum(facts[f"{name}_weight"] for name in setting.paths), float(rows), abs_tol=1e-12)
        assert (said.reason is RouterReason.CARRIED) == bool(carrying) == seen
        if not seen:
            somewhere = any(facts[f"{name}_sees"] for name in setting.paths)
            assert said.reason is (RouterReason.NOT_TAKEN if somewhere else RouterReason.NO_PATH)
        for name in setting.paths:
            mentioned = name in carrying or (said.reason is not RouterReason.CARRIED and facts[f"{name}_sees"])
            assert (name in said.text) == (mentioned or said.reason is RouterReason.NO_PATH)


def check_cluster(said, setting, sequence, trace, query, key, seen):
    facts, start = said.facts, first_fitted(sequence)
    mine, its = int(trace.query_clusters[0, query]), trace.key_clusters[0].tolist()
    assert facts["start"] == start
    assert (facts["query_cluster"], facts["key_cluster"]) == (mine, its[key])
    assert facts["clusters"] == setting.clusters
    assert facts["keys_in_cluster"] == its.count(mine)
    if query < start:
        assert said.reason is ClusterReason.BEFORE_FIT
        assert ("further back" in said.text) == (not seen)
    elif mine != its[key]:
        assert said.reason is (Reason.ITSELF if seen else ClusterReason.OTHER_CLUSTER)
        assert not seen or query == key
    elif seen:
        assert said.reason is ClusterReason.SAME_CLUSTER
    else:
        assert said.reason is ClusterReason.OVERFLOWED
        span = range(key + 1, query + 1) if key < query else range(query, key)
        assert facts["nearer"] == sum(its[j] == mine for j in span)
        assert facts["nearer"] >= (setting.width if sequence.causal else setting.width // 2)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("dials", NARROW, ids=named)
@pytest.mark.slow
def test_every_explanation_is_true(dials, causal):
    setting = mechanism("routed", seed=2, **dials)
    sequence = gaussian(14, causal=causal, padding="holes", calibrated=False, heads=1, d=4, seed=3)
    if setting.refuses(sequence) is not None:
        assert setting.variant == "capsules"
        return
    attended = setting.attend(sequence)
    _, rows, seen = oracle(setting, sequence, attended.trace)
    for query in range(14):
        for key in range(query + 1 if causal else 14):
            if sequence.real[query] and sequence.real[key]:
                said = attended.explain(0, query, key)
                assert said.kept == bool(seen[0, query, key])
                check_explanation(
                    said, setting, sequence, attended.trace, query, key, rows[0, query, key], bool(seen[0, query, key])
                )


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("calibrated", [True, False], ids=["calibrated", "alone"])
@pytest.mark.parametrize("dials", NARROW, ids=named)
def test_narrow_settings_equal_the_oracle(dials, causal, calibrated):
    setting = mechanism("routed", seed=2, **dials)
    for n, padding in ((1, "none"), (7, "left"), (30, "holes")):
        sequence = gaussian(n, causal=causal, padding=padding, seed=n, d=4, calibrated=calibrated)
        if setting.refuses(sequence) is not None:
            continue
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        assert torch.equal(attended.kept(), seen)
        assert_close(attended.rows(), rows, rtol=1e-11, atol=1e-12)
        assert_close(attended.output, output, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dials", [d for d in NARROW if d.get("variant") != "capsules"], ids=named)
@pytest.mark.parametrize("calibrated", [True, False], ids=["calibrated", "alone"])
def test_nothing_leaks_from_the_future(dials, calibrated):
    """Neither k-means, nor W_r, nor the means, nor the choice of the top k may know a later token."""
    setting = mechanism("routed", **dials)
    for cut in (10, 33, 61):
        past = gaussian(90, calibrated=calibrated, seed=cut)
        kept = torch.arange(90)[:, None] < cut
        changed = {x: torch.where(kept, getattr(past, x), 4 - 3 * getattr(past, x)) for x in ("q", "k", "v")}
        before, after = setting.attend(past), rerun(setting, past, **changed)
        assert_close(before.output[:, :cut], after.output[:, :cut], rtol=0, atol=1e-12)
        assert_close(before.rows(slice(0, cut)), after.rows(slice(0, cut)), rtol=0, atol=1e-12)


def test_fits_say_what_they_were_fitted_on():
    for variant in ("router", "clusters"):
        setting = mechanism("routed", variant=variant)
        assert "calibration for tests" in setting.attend(gaussian(40)).trace.calibration
        trace = setting.attend(gaussian(40, calibrated=False, padding="left")).trace
        assert "past alone" in trace.calibration
        assert trace.start == 13 + 7
        assert str(trace.start) in trace.calibration
        assert "this sequence" in setting.attend(gaussian(40, causal=False)).trace.calibration
    assert mechanism("routed", weights="random").attend(gaussian(40)).trace.calibration == "drawn at random"


def test_two_fits_on_one_past_are_one():
    """The future behind the first quarter moves neither centroids nor W_r."""
    past = gaussian(80, calibrated=False)
    kept = torch.arange(80)[:, None] < 20
    changed = {x: torch.where(kept, getattr(past, x), -2 * getattr(past, x)) for x in ("q", "k", "v")}
    setting = mechanism("routed")
    before, after = setting.attend(past).trace, rerun(setting, past, **changed).trace
    assert torch.equal(before.router, after.router)
    assert torch.equal(before.centroids, after.centroids)


# ------------------------------------------------------------------------------------------------------------ clusters


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_no_token_is_lost(causal):
    """A fixed number of tokens a cluster would leave some in none, with an output of zero."""
    sequence = gaussian(150, causal=causal, padding="holes")
    attended = mechanism("routed", variant="clusters", clusters=40).attend(sequence)
    trace = attended.trace
    for clusters in (trace.query_clusters, trace.key_clusters):
        assert bool((clusters[:, sequence.real] >= 0).all())
        assert int(clusters.max()) < 40
        assert bool((clusters[:, ~sequence.real] == -1).all())
    assert torch.equal(trace.sizes.sum(-1), torch.full((2,), int(sequence.real.sum())))
    assert bool((attended.output[:, sequence.real].norm(dim=-1) > 0).all())
    walked = trace.key_clusters.gather(1, trace.order)[:, : int(sequence.real.sum())]
    assert bool((walked.diff() >= 0).all())


def test_centroids_keep_length_one_and_settle():
    sequence = gaussian(300, causal=False, d=16)
    vectors = torch.cat([sequence.q, sequence.k], dim=1)
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    found = spherical_means(vectors, 12, 0)
    assert_close(found.directions.norm(dim=-1), torch.ones(2, 12, dtype=torch.float64), rtol=0, atol=1e-12)
    assert bool((found.agreement.diff() >= -1e-12).all())
    assert bool((found.agreement[:, -1] > found.agreement[:, 0] + 0.02).all())


def test_centroids_are_the_means_of_their_tokens():
    """Three tight bundles: k-means ends at each bundle's mean direction."""
    source = torch.Generator().manual_seed(0)
    axes = torch.eye(8, dtype=torch.float64)[:3].repeat_interleave(20, 0)
    x = axes + 0.05 * torch.randn(60, 8, generator=source, dtype=torch.float64)
    x = (x / x.norm(dim=-1, keepdim=True))[None]
    for seed in range(40):
        found = spherical_means(x, 3, seed).directions[0]
        if len(set((found @ axes[::20].mT).argmax(-1).tolist())) == 3:
            break
    expected = x[0].view(3, 20, 8).mean(1)
    expected = expected / expected.norm(dim=-1, keepdim=True)
    order = (found @ axes[::20].mT).argmax(-1).argsort()
    assert_close(found[order], expected, rtol=1e-12, atol=1e-13)


def test_the_number_of_clusters_follows_the_root_of_n():
    for n, expected in ((1, 1), (100, 10), (130, 11)):
        sequence = gaussian(n, causal=False)
        assert mechanism("routed", variant="clusters").attend(sequence).trace.centroids.shape[1] == expected
    few = mechanism("routed", variant="clusters", clusters=64).attend(gaussian(5, causal=False)).trace
    assert few.centroids.shape[1] == 10, "no more clusters than there are queries and keys"


def test_centring_lets_queries_and_keys_in_cones_apart_meet():
    source = gaussian(200, causal=False)
    apart = Sequence(q=source.q + 6.0, k=source.k - 6.0, v=source.v)
    met = [float(mechanism("routed", variant="clusters", centred=c).attend(apart).kept().double().mean()) for c in (False, True)]
    assert met[0] < 0.01
    assert met[1] > 0.05


# -------------------------------------------------------------------------------------------------------------- router


def separable(n=240, seed=0):
    """Half the queries look at what is near, by place, half at one token far away, by content; one channel says which."""
    source = torch.Generator().manual_seed(seed)
    codes = torch.randn(n, 29, generator=source, dtype=torch.float64)
    codes = codes / codes.norm(dim=-1, keepdim=True)
    near = torch.rand(n, 1, generator=source) < 0.5
    turn = 2 * math.pi * torch.arange(n, dtype=torch.float64)[:, None] / n
    place = torch.cat([turn.cos(), turn.sin()], dim=-1)
    far = codes[(torch.arange(n) * 7 + n // 2) % n]
    said = torch.where(near, 100.0, -100.0).double()
    q = torch.cat([torch.where(near, 0.0, 600 * far), torch.where(near, 1000 * place, 0.0), said], dim=-1)
    k = torch.cat([codes, 0.5 * place, torch.zeros(n, 1, dtype=torch.float64)], dim=-1)
    v = torch.randn(n, 8, generator=source, dtype=torch.float64)
    return Sequence(q=q[None], k=k[None], v=v[None]), near[:, 0]


def test_a_fitted_router_sends_each_query_where_it_is_served_best():
    sequence, near = separable()
    dials = {"paths": ("local", "clusters"), "width": 64, "clusters": 6, "centred": False}
    right = {}
    for weights in ("fitted", "random"):
        attended = mechanism("routed", weights=weights, **dials).attend(sequence)
        right[weights] = float((attended.trace.probabilities[0].argmax(-1) == torch.where(near, 0, 1)).double().mean())
        exact = exact_rows(sequence) @ sequence.v
        right[f"{weights} error"] = float((attended.output - exact).norm() / exact.norm())
    assert right["fitted"] > 0.8, right
    assert right["random"] < 0.6, right
    assert right["fitted error"] < 0.9 * right["random error"], right


def test_the_fit_is_the_minimum_of_its_loss():
    """Newton's end against scipy's minimiser of the same loss, written in numpy."""
    source = np.random.default_rng(0)
    x, labels = source.normal(size=(60, 4)) * 3, source.integers(0, 3, 60)
    shares = np.eye(3)[labels]
    w = logistic_regression(torch.from_numpy(x), torch.from_numpy(shares)).numpy()
    scale = np.sqrt((x**2).mean())

    def loss(flat):
        logits = (x / scale) @ flat.reshape(4, 3)
        logits = logits - logits.max(-1, keepdims=True)
        log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return -(shares * log).sum() / 60 + RIDGE / 2 * (flat**2).sum()

    best = minimize(loss, np.zeros(12), method="BFGS", options={"gtol": 1e-9})
    assert loss((w * scale).ravel()) <= best.fun + 1e-9
    np.testing.assert_allclose(w * scale, best.x.reshape(4, 3), rtol=0, atol=1e-5)


def test_errors_are_those_of_the_paths():
    sequence = gaussian(600, causal=False, heads=1)
    trace = mechanism("routed", width=32).attend(sequence).trace
    assert len(trace.sample) == 256
    assert (int(trace.sample[0]), int(trace.sample[-1])) == (0, 599)
    exact = (exact_rows(sequence) @ sequence.v)[0, trace.sample]
    for p, attended in enumerate(trace.attended):
        expected = (attended.output[0, trace.sample] - exact).norm(dim=-1) / exact.norm(dim=-1)
        assert_close(trace.errors[0, :, p], expected, rtol=1e-10, atol=1e-12)
    assert evenly(torch.arange(5), 8).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_top_k_keeps_the_largest_shares(top_k):
    sequence = gaussian(70, padding="holes")
    every = mechanism("routed", paths=PATHS, weights="random", top_k=0).attend(sequence).trace.probabilities
    attended = mechanism("routed", paths=PATHS, weights="random", top_k=top_k).attend(sequence)
    shares = attended.trace.probabilities
    real = sequence.real
    assert torch.equal((shares > 0).sum(-1)[:, real], torch.full((2, int(real.sum())), top_k))
    assert not bool((shares[:, ~real] > 0).any())
    smallest_kept = every.masked_fill(shares == 0, 2).amin(-1)
    largest_dropped = every.masked_fill(shares > 0, -1).amax(-1)
    assert bool((smallest_kept >= largest_dropped)[:, real].all())
    expected = torch.where(shares > 0, every, 0.0)
    expected = expected / expected.sum(-1, keepdim=True).clamp_min(1e-300)
    assert_close(shares, expected, rtol=1e-12, atol=1e-14)
    if top_k == 1:
        taken = torch.stack([a.output for a in attended.trace.attended], -1).gather(
            -1, shares.argmax(-1)[..., None, None].expand(-1, -1, 6, 1)
        )[..., 0]
        assert_close(attended.output[:, real], taken[:, real], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("weights", ["fitted", "random"])
@pytest.mark.parametrize("top_k", [1, 2])
def test_another_top_k_on_the_same_paths_is_the_mechanism_with_it(weights, top_k):
    sequence = gaussian(70, padding="holes")
    own = mechanism("routed", width=4, weights=weights, top_k=top_k)
    given = with_top(own.with_dials(top_k=0).attend(sequence), own, top_k)
    expected = own.attend(sequence)
    assert type(given) is type(expected)
    assert given.mechanism == own
    assert given.cost == expected.cost
    assert torch.equal(given.output, expected.output)
    assert torch.equal(given.rows(), expected.rows())
    for name in ("router", "probabilities", "load", "chosen", "balance"):
        assert torch.equal(getattr(given.trace, name), getattr(expected.trace, name)), name


def test_load_and_balance():
    trace = mechanism("routed", weights="random").attend(gaussian(120, padding="holes")).trace
    real = gaussian(120, padding="holes").real
    assert_close(trace.load.sum(-1), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)
    assert_close(trace.load, trace.probabilities[:, real].mean(1), rtol=1e-12, atol=0)
    largest = trace.probabilities[:, real].argmax(-1)
    for p in range(3):
        assert_close(trace.chosen[:, p], (largest == p).double().mean(-1), rtol=1e-12, atol=0)
    assert_close(trace.balance, 3 * (trace.load * trace.chosen).sum(-1), rtol=1e-12, atol=0)
    alone = mechanism("routed", paths=("local",)).attend(gaussian(50)).trace
    assert_close(alone.balance, torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_mixture_of_lists_is_the_mixture_of_their_rows():
    """Keys that several paths share have one slot with the summed weight; pictures agree with streaming rows."""
    sequence = gaussian(120, padding="holes")
    attended = mechanism("routed", width=12).attend(sequence)
    everything, heads = torch.arange(120), torch.arange(2)
    entries = attended._entries(everything, heads)
    used = entries.keys.sort(-1).values
    assert not bool(((used[..., 1:] == used[..., :-1]) & (used[..., 1:] >= 0)).any())
    dense = torch.zeros(2, 120, 120, dtype=torch.float64).scatter_add(2, entries.keys.clamp_min(0), entries.weights)
    assert_close(dense, RouterMap._rows(attended, everything, heads), rtol=1e-12, atol=1e-14)
    listed = torch.zeros(2, 120, 120).scatter_reduce(2, entries.keys.clamp_min(0), (entries.keys >= 0).float(), "amax")
    assert torch.equal(listed > 0, attended.kept())
    with_exact = mechanism("routed", width=12, paths=("local", "exact")).attend(sequence)
    assert_close(with_exact.pooled(shape=(10, 10)), pooled(with_exact.rows(), 10), rtol=1e-11, atol=1e-13)


def pooled(rows, cells):
    h, n, _ = rows.shape
    return rows.view(h, cells, n // cells, cells, n // cells).mean((2, 4))


def test_each_path_alone_is_that_mechanism():
    sequence = gaussian(60)
    exact = exact_rows(sequence) @ sequence.v
    assert_close(mechanism("routed", paths=("exact",)).attend(sequence).output, exact, rtol=0, atol=1e-12)
    clusters = mechanism("routed", variant="clusters").attend(sequence).output
    assert_close(mechanism("routed", paths=("clusters",)).attend(sequence).output, clusters, rtol=0, atol=1e-15)
    for a, b in combinations(PATHS, 2):
        trace = mechanism("routed", paths=(b, a)).attend(sequence).trace
        assert trace.paths == (b, a)
        assert trace.router.shape == (2, 8, 2)
        assert (trace.centroids is None) == ("clusters" not in (a, b))


def test_paths_must_be_some_and_distinct():
    for paths in ((), ("local", "local")):
        with pytest.raises(ValueError, match=r"at least one path, and each once"):
            mechanism("routed", paths=paths)
    with pytest.raises(ValueError, match=r"'local', 'strided', 'clusters' or 'exact'"):
        mechanism("routed", paths=("global",))


# ------------------------------------------------------------------------------------------------------------ capsules


def test_couplings_sharpen_over_the_iterations():
    """Two opposed bundles of values: capsules and tokens come to agree, and the couplings' entropy falls."""
    source = gaussian(80, causal=False, heads=1, e=6)
    side = torch.where(torch.arange(80) % 2 == 0, 1.0, -1.0)[:, None].double()
    v = source.v * 0.1 + side * torch.ones(6, dtype=torch.float64)
    setting = mechanism("routed", variant="capsules", capsules=4, iterations=8, seed=3)
    trace = setting.attend(Sequence(q=source.q * 0.1, k=source.k, v=v[:1])).trace
    entropy = torch.special.entr(trace.couplings).sum(-1).mean((1, 2))
    assert bool((entropy.diff() < 0).all()), entropy
    # Each bundle keeps to the capsules on its own side.
    agreeing = trace.couplings[-1, 0] @ (trace.capsules[0].mean(-1) > 0).double()
    assert float((agreeing[::2] - agreeing[1::2]).min()) > 0.5
    assert bool((trace.lengths < 1).all())
    assert_close(trace.lengths[-1], trace.capsules.norm(dim=-1), rtol=1e-12, atol=1e-14)
    assert_close(trace.couplings.sum(-1), torch.ones(8, 1, 80, dtype=torch.float64), rtol=1e-12, atol=0)


def test_capsules_refuse_a_causal_mask():
    setting = mechanism("routed", variant="capsules")
    with pytest.raises(Refused, match="causal mask"):
        setting.attend(gaussian(20))
    assert setting.not_stochastic.endswith(".")
    assert setting.exact_setting(64) is None
    assert setting.attend(gaussian(20, causal=False)).read_count(0, 3).unit == "capsules"


# ----------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("dials", "names"),
    [
        ({"variant": "clusters", "width": 2, "clusters": 2}, ("q", "k", "v")),
        ({"width": 2, "sinks": 1, "clusters": 2}, ("q", "k", "v")),
        ({"width": 2, "sinks": 1, "clusters": 2, "weights": "random", "top_k": 2}, ("q", "k", "v")),
        ({"variant": "capsules", "capsules": 3}, ("q", "v")),
    ],
    ids=lambda x: named(x) if isinstance(x, dict) else "",
)
@pytest.mark.slow
def test_gradients_equal_finite_differences(dials, names):
    """Fitted on a calibration, so that W_r and the centroids do not move with the tokens."""
    setting = mechanism("routed", **dials)
    sequence = gaussian(6, causal=setting.variant != "capsules", heads=1, d=2, e=2, padding="holes")

    def output(*tensors):
        return rerun(setting, sequence, **dict(zip(names, tensors, strict=True))).output

    assert torch.autograd.gradcheck(output, [getattr(sequence, x).clone().requires_grad_(True) for x in names])
