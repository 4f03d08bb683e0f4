"""Each synthetic sequence has the property that it is there to isolate, at any length, and repeats."""

import math

import pytest
import torch

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.spread import find_sinks
from longattn_core.measures.theory.dilution import needle_weight
from longattn_core.sequences.limits import MAX_NUMBERS
from longattn_core.sequences.synthetic import CALIBRATION_TOKENS, KINDS, synthetic
from tests.support.statistics import assert_mean, assert_variance

LENGTHS = (1, 2, 63, 64, 65, 257)
# Nothing here is stricter than float64 sums of 64 products allow.
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def scores(sequence, head=0):
    return sequence.q[head] @ sequence.k[head].mT / math.sqrt(sequence.d)


def drawn(kind, **dials):
    return synthetic(kind, dtype="float64", **dials).sequence()


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_every_length(kind, n):
    sequence = synthetic(kind, n=n, heads=2, d=8, e=6, causal=n % 2 == 0).sequence()
    assert (sequence.h, sequence.n, sequence.d, sequence.e) == (2, n, 8, 6)
    assert sequence.q.dtype == sequence.v.dtype == torch.float32
    assert sequence.causal == (n % 2 == 0)
    assert len(sequence.tokens) == n
    calibration = sequence.calibration
    assert (calibration.h, calibration.n, calibration.d) == (2, CALIBRATION_TOKENS, 8)
    assert calibration.calibration is None
    assert calibration.causal == sequence.causal


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_repeats_and_follows_its_seed(kind):
    first, again, other = (synthetic(kind, n=70, d=8, e=6, seed=seed).sequence() for seed in (1, 1, 2))
    assert torch.equal(first.q, again.q)
    assert torch.equal(first.k, again.k)
    assert torch.equal(first.v, again.v)
    assert not torch.equal(first.v, other.v)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "repeated"])
def test_the_first_tokens_stay_when_the_sequence_grows_and_a_head_is_what_it_is_among_others(kind):
    # Without a mask a sink's score is set for all n keys, so it moves with n: under one it does not.
    short = synthetic(kind, n=100, d=8, e=6).sequence()
    long = synthetic(kind, n=700, heads=3, d=8, e=6).sequence()
    for name in ("q", "k", "v"):
        assert torch.equal(getattr(short, name)[0], getattr(long, name)[0, :100])
    assert torch.equal(short.calibration.k[0], long.calibration.k[0])
    assert not torch.equal(long.v[0], long.v[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_calibration_is_another_text(kind):
    sequence = synthetic(kind, n=CALIBRATION_TOKENS, d=8, e=6).sequence()
    assert not torch.equal(sequence.v, sequence.calibration.v)


def test_the_calibration_is_of_the_same_heads():
    sequence = drawn("low_rank", n=50, d=16, rank=3, noise=0.0)
    both = torch.cat((sequence.k[0], sequence.calibration.k[0]))
    assert int(torch.linalg.matrix_rank(both)) == 3
    clusters = drawn("clustered", n=50, d=16, centres=3, spread=0.0)
    assert len(torch.cat((clusters.k[0], clusters.calibration.k[0])).unique(dim=0)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_sharpness_multiplies_the_scores(kind):
    plain, sharp = (drawn(kind, n=40, d=8, sharpness=sharpness) for sharpness in (1.0, 2.5))
    torch.testing.assert_close(scores(sharp), 2.5 * scores(plain), **EXACT)
    torch.testing.assert_close(scores(sharp.calibration), 2.5 * scores(plain.calibration), **EXACT)
    assert sharp.sharpness == 2.5


def test_65536_tokens():
    sequence = synthetic("needle", n=65_536).sequence()
    assert sequence.q.shape == (1, 65_536, 64)
    assert len(sequence.tokens) == 65_536
    last = exact_rows(sequence, 65_535)
    assert float(last.sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [*LENGTHS, 1000])
def test_identical_rows_share_the_weight_exactly(n, dtype):
    free = synthetic("identical", n=n, causal=False, dtype=dtype).sequence()
    assert torch.equal(exact_rows(free), torch.full((1, n, n), 1.0, dtype=free.q.dtype) / n)
    causal = exact_rows(free.masked(True))
    shares = torch.ones(n, dtype=free.q.dtype) / torch.arange(1, n + 1)
    assert torch.equal(causal[0], shares[:, None].expand(n, n).tril())


def test_gaussian_scores_have_the_stated_variance():
    sequence = drawn("gaussian", n=2000, d=64, e=4, scale=1.3, causal=False)
    # The diagonal's pairs are independent of each other.
    own = scores(sequence).diagonal()
    assert_mean(own, 0.0)
    assert_variance(own, 1.3**4)


def test_the_needle_leads_by_g_and_noise_is_gaussian():
    sequence = drawn("needle", n=4000, d=16, e=2, lead=7.5, noise=1.7, position=40, causal=False)
    lines = scores(sequence)
    torch.testing.assert_close(lines[:, 40], torch.full((4000,), 7.5, dtype=torch.float64), **EXACT)
    assert sequence.tokens[40] == "needle"
    others = lines[:, torch.arange(4000) != 40]
    for query in (0, 1999, 3999):
        assert_mean(others[query], 0.0)
        assert_variance(others[query], 1.7**2)


def test_only_the_last_query_asks_when_told_so():
    lines = scores(drawn("needle", n=100, d=16, lead=7.5, asks="last", position=3))
    torch.testing.assert_close(lines[:-1, 3], torch.zeros(99, dtype=torch.float64), **EXACT)
    assert float(lines[-1, 3]) == pytest.approx(7.5, rel=1e-12)


def test_a_needle_beyond_the_end_is_the_last_token():
    sequence = drawn("needle", n=5, position=60_000)
    assert sequence.tokens == ("t0", "t1", "t2", "t3", "needle")
    assert float(scores(sequence)[2, 4]) == pytest.approx(8.0, rel=1e-12)


@pytest.mark.parametrize("n", [64, 1024])
def test_a_needle_without_noise_has_the_weight_of_the_closed_form(n):
    rows = exact_rows(drawn("needle", n=n, d=8, lead=5.0, noise=0.0, position=2, causal=False))
    assert float(rows[0, n - 1, 2]) == pytest.approx(float(needle_weight(5.0, n)), rel=1e-12)
    assert 1 / (1 + (n - 1) * math.exp(-5)) == pytest.approx(float(needle_weight(5.0, n)), rel=1e-12)


def test_clusters_score_high_inside_and_nothing_between():
    within, between = [], []
    for seed in range(15):
        sequence = drawn("clustered", n=24, d=16, e=2, heads=16, centres=3, spread=0.8, seed=seed, causal=False)
        same = torch.tensor([[a == b for a in sequence.tokens] for b in sequence.tokens])
        for head in range(16):
            lines = scores(sequence, head)
            # One mean a head: pairs of one head share its centres and are not independent.
            within.append(float(lines[same].mean()))
            between.append(float(lines[~same].mean()))
    assert_mean(within, 4 / (1 + 0.8**2))
    assert_mean(between, 0.0)
    assert_variance(torch.cat([drawn("clustered", n=1, d=16, heads=16, seed=seed).q.flatten() for seed in range(12)]), 1.0)


@pytest.mark.parametrize("rank", [1, 4, 16, 256])
def test_scores_of_low_rank_have_that_rank(rank):
    lines = scores(drawn("low_rank", n=120, d=16, rank=rank, noise=0.0))
    assert int(torch.linalg.matrix_rank(lines, rtol=1e-10)) == min(rank, 16)
    noisy = scores(drawn("low_rank", n=120, d=16, rank=rank, noise=0.3))
    assert int(torch.linalg.matrix_rank(noisy, rtol=1e-10)) == 16


def test_scores_of_low_rank_have_variance_one():
    own = scores(drawn("low_rank", n=4000, d=64, e=2, rank=4, noise=0.0, causal=False)).diagonal()
    assert_variance(own, 1.0)


def test_local_scores_depend_on_the_distance_only():
    lines = scores(drawn("local", n=80, d=16, strength=6.0, length=4.0))
    for lag in (0, 1, 7, 40):
        line = lines.diagonal(-lag)
        # cos(a)cos(b) + sin(a)sin(b) of phases up to 1e4 radians: their rounding, 1e-12, times the strength.
        torch.testing.assert_close(line, line[:1].expand_as(line), rtol=0, atol=1e-9)
    assert float(lines[0, 0]) == pytest.approx(6.0, rel=1e-12)


@pytest.mark.parametrize("lag", [1, 4, 12, 200])
def test_local_scores_decay_exponentially_on_average(lag):
    lead = []
    for seed in range(60):
        sequence = drawn("local", n=lag + 1, d=8, heads=16, e=1, strength=6.0, length=4.0, seed=seed)
        lead += [float(scores(sequence, head)[lag, 0]) for head in range(16)]
    assert_mean(lead, 6 * math.exp(-lag / 4))
    assert float(torch.tensor(lead).std()) <= 1.05 * 6 / math.sqrt(8)


def test_topics_make_sentences_and_paragraphs_alike():
    parts = (1.2, 0.7, 1.0)
    whole = sum(part**2 for part in parts)
    dials = {"words": 4, "sentences": 3, "paragraph": parts[0], "sentence": parts[1], "own": parts[2]}
    near, middle, far = [], [], []
    for seed in range(20):
        sequence = drawn("hierarchical", n=40, d=4, e=1, heads=16, seed=seed, **dials)
        for head in range(16):
            lines = scores(sequence, head)
            near.append(float(lines[1, 0]))
            middle.append(float(lines[9, 0]))
            far.append(float(lines[30, 0]))
    assert_mean(near, 2 * (parts[0] ** 2 + parts[1] ** 2) / whole)
    assert_mean(middle, 2 * parts[0] ** 2 / whole)
    assert_mean(far, 0.0)


def test_topics_come_with_their_levels():
    sequence = drawn("hierarchical", n=30, words=4, sentences=3)
    assert sequence.levels.sentence.tolist() == [i // 4 for i in range(30)]
    assert sequence.levels.paragraph.tolist() == [i // 12 for i in range(30)]
    assert sequence.tokens[:5] == ("1.1.1", "1.1.2", "1.1.3", "1.1.4", "1.2.1")
    assert sequence.tokens[29] == "3.2.2"


@pytest.mark.parametrize("n", [2, 3, 64, 101])
def test_the_copy_looks_for_what_came_next(n):
    sequence = drawn("repeated", n=n, d=64, strength=9.0)
    period = math.ceil(n / 2)
    lines = scores(sequence).masked_fill(~sequence.allowed(), -math.inf)
    for query in range(period, n):
        assert float(lines[query, query - period + 1]) == pytest.approx(9.0, rel=1e-10)
        assert int(lines[query].argmax()) == query - period + 1
        assert sequence.tokens[query] == sequence.tokens[query - period]
    # The value is the word's own: the copy reads what its word was followed by.
    assert torch.equal(sequence.v[0, period:], sequence.v[0, : n - period])


@pytest.mark.parametrize("causal", [True, False])
def test_a_sink_takes_its_share_exactly_when_there_is_no_noise(causal):
    rows = exact_rows(drawn("sink", n=200, d=8, share=0.55, noise=0.0, causal=causal))[0]
    expected = torch.full((200,), 0.55, dtype=torch.float64)
    if causal:
        expected[0] = 1.0
    torch.testing.assert_close(rows[:, 0], expected, rtol=1e-10, atol=0)


def test_a_sink_keeps_its_share_on_average_at_any_length():
    share = {}
    for n in (200, 1600):
        draws = [drawn("sink", n=n, d=8, e=1, heads=16, seed=seed) for seed in range(10)]
        share[n] = torch.cat([exact_rows(sequence, n - 1)[:, 0, 0] for sequence in draws])
    # The sum of n − 1 exponentials has a relative variance of (e − 1)/(n − 1): by Jensen the mean is off by p(1 − p)² of it.
    assert_mean(share[200], 0.6, slack=0.6 * 0.4**2 * (math.e - 1) / 199)
    assert_mean(share[1600], 0.6, slack=0.6 * 0.4**2 * (math.e - 1) / 1599)


def test_the_sink_is_found_by_the_rule_and_no_other_key_is():
    assert find_sinks(drawn("sink", n=300, heads=2)) == ((0,), (0,))
    assert find_sinks(drawn("sink", n=300, value=0.9)) == ((),)
    assert find_sinks(drawn("gaussian", n=300)) == ((),)


@pytest.mark.parametrize(
    ("kind", "dials", "words"),
    [
        ("neddle", {}, "There is no synthetic sequence 'neddle'; there are identical, gaussian, needle"),
        ("needle", {"leed": 3}, "there is no field 'leed'; its fields are kind, n, heads"),
        ("needle", {"lead": -1}, "'lead' cannot be -1: .* (allowed: 0 … 40)"),
        ("needle", {"d": 7}, "'d' cannot be 7: the width d must be even, found 7"),
        ("gaussian", {"n": 0}, "'n' cannot be 0: .* (allowed: 1 … 65536)"),
        ("gaussian", {"n": 65_537}, "'n' cannot be 65537"),
        ("gaussian", {"n": 65_536, "heads": 16, "d": 256}, f"at most {MAX_NUMBERS:,} are allowed"),
    ],
)
def test_wrong_dials_get_one_sentence(kind, dials, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")) as error:
        synthetic(kind, **dials)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_describes_itself(kind):
    made = synthetic(kind, n=20)
    assert type(made).idea.endswith((".", "?"))
    assert made.sequence().origin == made.origin
    assert made.title in made.origin
    assert "20 tokens, seed 0" in made.origin
    assert type(made).model_validate(made.model_dump(exclude_defaults=True)) == made
    assert made.model_dump(exclude_defaults=True)["kind"] == kind
