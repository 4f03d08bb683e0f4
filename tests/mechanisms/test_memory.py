"""What is special to recurrent memory: what is cached, pooled, gone, mixed, faded, overwritten, and what is said of it."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Sequence
from longattn_core.contracts.mechanism import Reason
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.memory import Memory, segments, states
from longattn_core.mechanisms.memory.reasons import MemoryReason
from tests.oracles.memory import gates_of, oracle, phi, slot_history
from tests.support.sequences import PADDINGS, gaussian

SMALL = {"segment": 5, "memory": 7, "compressed": 3, "rate": 2, "slots": 3, "half_life": 6.0}
VARIANTS = ("cache", "compressed", "slots", "state", "decay", "gated", "delta")
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums of at most a few hundred terms


def small(variant, **dials):
    return Memory(variant=variant, **{**SMALL, **dials})


def readings(variants=VARIANTS, n=33):
    """Every variant with every mask and padding that it reads."""
    for variant in variants:
        for causal in (True, False):
            for padding in PADDINGS:
                sequence = gaussian(n, heads=1, causal=causal, padding=padding, seed=4)
                if small(variant).refuses(sequence) is None:
                    yield small(variant), sequence


def in_memory(setting, start):
    """Tokens in the cache, and groups of tokens in the summaries, of the segment at `start`."""
    cache, summaries = [], []
    for begin in range(0, start, setting.segment):
        cache += range(begin, begin + setting.segment)
        leaving = cache[: max(0, len(cache) - setting.memory)]
        cache = cache[len(leaving) :]
        if setting.variant == "compressed":
            summaries += [leaving[a : a + setting.rate] for a in range(0, len(leaving), setting.rate)]
            summaries = summaries[-setting.compressed :]
    return cache, summaries


# ------------------------------------------------------------------------------------------------ explanations


def check_explanation(attended, query, key, rows, background):
    """The reason and every fact of one pair, against lists of tokens and the oracle's rows `[n n]`.

    `background` is the oracle's: what each segment finds in the slots, or what the state keeps at each token.
    """
    setting, sequence = attended.mechanism, attended.sequence
    said = attended.explain(0, query, key)
    weight = float(rows[query, key])
    assert math.isclose(said.weight, weight, rel_tol=1e-8, abs_tol=1e-12)
    if said.reason in (Reason.PADDING, Reason.FUTURE):
        assert not (sequence.real[query] and sequence.real[key]) or (sequence.causal and key > query)
        return said.reason
    facts, start = said.facts, query - query % setting.segment
    assert facts["lag"] == query - key
    if setting.variant in ("state", "decay", "gated"):
        check_fading(setting, sequence, said, query, key, weight, background)
    elif setting.variant == "delta":
        check_delta(setting, sequence, said, query, key, rows)
    elif key // setting.segment >= query // setting.segment:
        own = key // setting.segment == query // setting.segment
        assert said.reason == (MemoryReason.IN_SEGMENT if own else MemoryReason.LATER)
        assert said.kept == own
        assert (facts["start"], facts["stop"]) == (start, min(start + setting.segment, sequence.n))
    elif setting.variant == "slots":
        check_slot(setting, sequence, said, query, key, weight, background)
    else:
        check_place(setting, sequence, said, query, key, rows)
    return said.reason


def check_place(setting, sequence, said, query, key, rows):
    start = query - query % setting.segment
    cache, summaries = in_memory(setting, start)
    groups = [group for group in summaries if key in group]
    if key in cache:
        assert said.reason == MemoryReason.CACHED
        assert said.facts["oldest"] == cache[0]
    elif groups:
        members = [j for j in groups[0] if sequence.real[j]]
        assert said.reason == MemoryReason.COMPRESSED
        assert said.facts["pooled"] == len(members)
        assert (said.facts["summary_start"], said.facts["summary_stop"]) == (groups[0][0], groups[0][-1] + 1)
        assert math.isclose(said.facts["summary_weight"], float(rows[query, members].sum()), rel_tol=1e-9)
    else:
        left = said.facts["left_at"]
        assert said.reason == MemoryReason.GONE
        assert not said.kept
        assert said.facts["gone_for"] == query - left >= 0
        assert left % setting.segment == 0
        now, before = in_memory(setting, left), in_memory(setting, left - setting.segment)
        assert key not in now[0] + [token for group in now[1] for token in group]
        assert key in before[0] + [token for group in before[1] for token in group] or key >= left - setting.segment


def check_slot(setting, sequence, said, query, key, weight, history):
    shares = history[query // setting.segment]
    keys = torch.stack([share @ sequence.k[0] for share in shares])
    stop = query + 1 if sequence.causal else query - query % setting.segment + setting.segment
    own = [j for j in range(query - query % setting.segment, min(stop, sequence.n)) if sequence.real[j]]
    scores = torch.cat((keys, sequence.k[0, own])) @ sequence.q[0, query] / math.sqrt(sequence.d)
    read = scores.softmax(0)[: len(shares)]
    through = torch.stack([r * share[key] for r, share in zip(read, shares, strict=True)])
    assert said.reason == MemoryReason.SLOT
    assert said.facts["slot"] == int(through.argmax())
    assert said.facts["slots"] == len(shares)
    for name, value in (("read", read[said.facts["slot"]]), ("through_slot", through.max()), ("on_slots", read.sum())):
        assert math.isclose(said.facts[name], float(value), rel_tol=1e-9)
    assert math.isclose(float(through.sum()), weight, rel_tol=1e-9)
    assert math.isclose(said.facts["mix"] * said.facts["read"], said.facts["through_slot"], rel_tol=1e-9)
    assert said.facts["rewrites"] == query // setting.segment - key // setting.segment - 1


def check_fading(setting, sequence, said, query, key, weight, gates):
    facts = said.facts
    kept = gates[key + 1 : query + 1].prod(0) if sequence.causal else torch.ones(sequence.d)
    pair = phi(sequence.q[0, query]) * phi(sequence.k[0, key])
    assert math.isclose(facts["similarity"], float(pair.sum()), rel_tol=1e-9)
    assert math.isclose(facts["kept"], float((pair * kept).sum() / pair.sum()), rel_tol=1e-9)
    assert math.isclose(facts["similarity"] * facts["kept"] / facts["normaliser"], weight, rel_tol=1e-9)
    assert facts["visible"] == int(sequence.allowed(query).sum())
    whole = setting.variant == "state" or query == key
    assert said.reason == (MemoryReason.KEPT if whole else MemoryReason.FADED)


def check_delta(setting, sequence, said, query, key, rows):
    facts = said.facts
    unit = torch.nn.functional.normalize(sequence.k[0], dim=-1)
    similarity = float(unit[key] @ torch.nn.functional.normalize(sequence.q[0, query], dim=0))
    assert math.isclose(facts["similarity"], similarity, rel_tol=1e-9)
    assert math.isclose(facts["written"], setting.beta * similarity, rel_tol=1e-9)
    assert math.isclose(facts["written"] + facts["changed"], float(rows[query, key]), rel_tol=1e-8, abs_tol=1e-10)
    if key == query:
        assert said.reason == MemoryReason.KEPT
        return
    later = [j for j in range(key + 1, query + 1) if sequence.real[j]]
    changes = {j: -setting.beta * float(rows[query, j]) * float(unit[j] @ unit[key]) for j in later}
    assert math.isclose(sum(changes.values()), facts["changed"], rel_tol=1e-8, abs_tol=1e-10)
    assert facts["changed_most_by"] == max(changes, key=lambda j: abs(changes[j]))
    overwritten = abs(float(rows[query, key])) < abs(facts["written"])
    assert said.reason == (MemoryReason.OVERWRITTEN if overwritten else MemoryReason.KEPT)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.slow
def test_every_explanation_is_true(variant):
    found = set()
    for causal, padding, n in ((True, "holes", 29), (False, "none", 18)):
        setting, sequence = small(variant), gaussian(n, heads=1, causal=causal, padding=padding, seed=4)
        if setting.refuses(sequence) is not None:
            continue
        attended = setting.attend(sequence)
        _, rows, _ = oracle(setting, sequence, attended.trace)
        background = None
        if variant == "slots":
            background = slot_history(setting, sequence, sequence.real, attended.trace.queries, 0)
        elif variant in ("state", "decay", "gated"):
            background = gates_of(setting, sequence, sequence.real, attended.trace.projection)[0]
        for query in range(n):
            # Every other pair, shifted from query to query.
            for key in range(query % 2, min(query + 2, n) if causal else n, 2):
                found.add(check_explanation(attended, query, key, rows[0], background))
    expected = {
        "cache": {MemoryReason.IN_SEGMENT, MemoryReason.CACHED, MemoryReason.GONE, MemoryReason.LATER},
        "compressed": {*(r for r in MemoryReason if r.name in ("CACHED", "COMPRESSED", "GONE", "IN_SEGMENT", "LATER"))},
        "slots": {MemoryReason.IN_SEGMENT, MemoryReason.SLOT, MemoryReason.LATER},
        "state": {MemoryReason.KEPT},
        "decay": {MemoryReason.KEPT, MemoryReason.FADED},
        "gated": {MemoryReason.KEPT, MemoryReason.FADED},
        "delta": {MemoryReason.KEPT, MemoryReason.OVERWRITTEN},
    }[variant]
    assert found - set(Reason) == expected


# ------------------------------------------------------------------------------------------------ against the oracle


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_settings_agree_with_the_oracle(variant):
    """Segments that divide nothing, so that every edge is crossed."""
    for setting, sequence in readings((variant,)):
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        assert_close(attended.output, output, **EXACT)
        assert_close(attended.rows(), rows, **EXACT)
        assert torch.equal(attended.kept(), seen)


def test_paper_decays_differ_by_head():
    sequence = gaussian(40, heads=3)
    setting = Memory(variant="decay", decays="by head")
    chosen = setting.attend(sequence.select_heads([2, 0]))
    assert_close(chosen.trace.log_gates[:, 0, 0].exp(), torch.tensor([127 / 128, 31 / 32]).double(), **EXACT)
    assert_close(chosen.output, oracle(setting, sequence.select_heads([2, 0]), chosen.trace)[0], **EXACT)


@pytest.mark.parametrize("variant", ["cache", "compressed", "slots"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_results_do_not_depend_on_how_segments_are_run(variant, causal, monkeypatch):
    """Many segments in one product, or one query at a time: the same output."""
    sequence = gaussian(57, causal=causal, padding="holes")
    together = small(variant).attend(sequence).output
    for cells in (1, 60, 700):
        monkeypatch.setattr(segments, "STREAM_CELLS", cells)
        assert_close(small(variant).attend(sequence).output, together, **EXACT)


@pytest.mark.parametrize("variant", ["state", "gated", "delta"])
def test_largest_weights_do_not_depend_on_how_many_rows_are_walked(variant, monkeypatch):
    attended = small(variant).attend(gaussian(150))
    whole = attended.pooled((3, 150), (0, 140), (7, 9), "max")
    monkeypatch.setattr(states, "ROWS", 11)
    assert_close(attended.pooled((3, 150), (0, 140), (7, 9), "max"), whole, **EXACT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_maps_of_several_blocks_are_pooled_rows(variant):
    """257 tokens are more than two blocks of every state, and the mean follows a recurrence of its own."""
    attended = small(variant).attend(gaussian(257, heads=2, padding="holes"))
    rows = attended.rows(slice(100, 250), slice(20, 230))
    assert_close(attended.pooled((100, 250), (20, 230), (3, 7)), rows.view(2, 3, 50, 7, 30).mean((2, 4)), **EXACT)
    assert_close(attended.pooled((100, 250), (20, 230), (3, 7), "max"), rows.view(2, 3, 50, 7, 30).amax((2, 4)), **EXACT)


# ------------------------------------------------------------------------------------------------ cache and summaries


@pytest.mark.parametrize(
    "dials", [{"memory": 64}, {"memory": 100}, {"segment": 64}, {"variant": "compressed", "rate": 1, "compressed": 64}], ids=str
)
def test_enough_memory_is_exact_attention(dials):
    """Under a causal mask; with c = 1 a summary is the token itself."""
    sequence = gaussian(64, padding="holes")
    attended = Memory(**{**SMALL, "variant": "cache", **dials}).attend(sequence)
    assert_close(attended.output, exact_rows(sequence) @ sequence.v, **EXACT)
    assert_close(attended.rows(), exact_rows(sequence), **EXACT)


@pytest.mark.parametrize("rate", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize(("segment", "memory"), [(5, 7), (5, 5), (4, 6), (8, 3), (3, 8), (1, 1)])
def test_no_token_that_leaves_the_cache_is_dropped(segment, memory, rate):
    """Padding by n mod c where −n mod c is meant would lose the rest of each eviction."""
    sequence = gaussian(41, heads=1)
    attended = Memory(variant="compressed", segment=segment, memory=memory, rate=rate, compressed=64).attend(sequence)
    assert torch.equal(attended.kept(), sequence.allowed()[None])
    groups = attended.trace.groups
    assert groups[:, 0].tolist() == [0, *groups[:-1, 1].tolist()]
    assert int(groups[-1, 1]) == int(attended.trace.cached[-1, 0])
    assert 1 <= int(groups.diff(dim=1).min()) <= int(groups.diff(dim=1).max()) <= rate


@pytest.mark.parametrize(("segment", "memory"), [(4, 4), (4, 12), (5, 7), (6, 4), (3, 10)])
def test_reach_over_layers(segment, memory):
    """Each layer sees back to ⌊t/L⌋·L − M; (t mod L) + layers·M only where L divides M."""
    sequence = gaussian(48, heads=1)
    seen = Memory(segment=segment, memory=memory).attend(sequence).kept()[0].long()
    reached = torch.eye(48, dtype=torch.long)
    oldest = torch.arange(48)
    for layer in range(1, 4):
        reached = (reached @ seen).clamp_max(1)
        oldest = (oldest // segment * segment - memory).clamp_min(0)
        assert torch.equal(reached.argmax(1), oldest)
        closed_form = torch.arange(48) - torch.arange(48) % segment - layer * memory
        same = bool((closed_form.clamp_min(0) == oldest).all())
        assert same == (memory % segment == 0 or layer == 1)


@pytest.mark.parametrize("variant", ["cache", "compressed"])
def test_timeline_covers_the_past_once(variant):
    trace = small(variant).attend(gaussian(43)).trace
    starts = trace.segments[:, 0]
    assert trace.segments[0, 0] == 0
    assert torch.equal(trace.segments[1:, 0], trace.segments[:-1, 1])
    assert int(trace.gone[:, 0].abs().max()) == 0
    assert torch.equal(trace.gone[:, 1], trace.compressed[:, 0])
    assert torch.equal(trace.compressed[:, 1], trace.cached[:, 0])
    assert torch.equal(trace.cached[:, 1], starts)
    for row, start in enumerate(starts.tolist()):
        cache, summaries = in_memory(small(variant), start)
        held = [token for group in summaries for token in group]
        assert list(range(*trace.cached[row].tolist())) == cache
        assert list(range(*trace.compressed[row].tolist())) == held


def test_what_is_gone_has_no_effect():
    """Other values where memory does not reach leave the output as it is, and where it reaches they move it."""
    sequence = gaussian(40)
    for variant, oldest in (("cache", 28), ("compressed", 23)):
        before = small(variant).attend(sequence).output[:, 39]
        for token in (oldest - 1, oldest):
            changed = replace(sequence, v=sequence.v.clone().index_fill(1, torch.tensor([token]), 50.0))
            moved = not torch.equal(small(variant).attend(changed).output[:, 39], before)
            assert moved == (token == oldest), (variant, token)


def test_padding_takes_a_place_in_the_cache_and_no_weight():
    sequence = gaussian(20, heads=1, padding="holes")
    attended = small("cache").attend(sequence)
    visible = [j for j in range(8, 18) if sequence.real[j]]
    assert attended.kept(17, None, 0)[0, 0].nonzero().squeeze(-1).tolist() == visible
    assert attended.read_count(0, 17).count == len(visible)


# ------------------------------------------------------------------------------------------------ slots


def test_slots_are_masked_until_they_are_written():
    """The first segment, and every one before the first real token, sees its own tokens only."""
    for padding, quiet in ((None, 5), (torch.arange(30) >= 12, 15)):
        sequence = replace(gaussian(30), padding=padding)
        attended = small("slots").attend(sequence)
        alone = small("cache", memory=1).attend(replace(sequence, padding=padding)).rows(slice(0, quiet))
        first = attended.rows(slice(0, quiet))
        segment = torch.arange(quiet) // 5
        same = segment[:, None] == torch.arange(30) // 5
        assert_close(first.sum(-1), first.masked_fill(~same, 0).sum(-1), **EXACT)
        assert torch.equal(attended.trace.written, torch.arange(6) * 5 >= quiet)
        assert alone.shape == first.shape


def test_slots_are_convex_mixes_of_the_past():
    sequence = gaussian(33, padding="holes")
    trace = small("slots").attend(sequence).trace
    for segment in range(1, len(trace.segments)):
        mixing = trace.mixing(segment)
        for head in range(2):
            shares = slot_history(small("slots"), sequence, sequence.real, trace.queries, head)[segment]
            assert_close(mixing[head], torch.stack(shares)[:, : mixing.shape[2]], **EXACT)
        assert float(mixing.min()) >= 0
        assert_close(mixing.sum(-1), torch.ones(2, 3, dtype=torch.float64), **EXACT)


def test_slots_carry_further_than_a_cache():
    sequence = gaussian(100)
    first_token = small("slots").attend(sequence).rows(99, 0)
    assert float(first_token.min()) > 0
    assert float(small("cache").attend(sequence).rows(99, 0).abs().max()) == 0


# ------------------------------------------------------------------------------------------------ running states


def test_equal_tokens_give_equal_shares():
    """With Q = K and all tokens alike every weight of a state is 1/(i + 1), and a fading one's a power of γ."""
    one = torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64).expand(1, 40, 6)
    sequence = Sequence(q=one, k=one, v=one, causal=True)
    lag = (torch.arange(40)[:, None] - torch.arange(40)).double()
    for variant, kept in (("state", torch.ones(40, 40)), ("decay", 0.5 ** (lag / 6))):
        expected = kept.double().tril()
        rows = small(variant).attend(sequence).rows()[0]
        assert_close(rows, expected / expected.sum(1, keepdim=True), **EXACT)


def test_a_long_half_life_is_the_plain_state():
    sequence = gaussian(80)
    plain = small("state").attend(sequence).output
    for variant in ("decay", "gated"):
        # Over 80 tokens a state with a half-life of 2^20 loses 5e-5 of what it holds.
        assert_close(small(variant, half_life=2.0**20).attend(sequence).output, plain, rtol=0, atol=1e-4)


def test_padding_does_not_advance_a_state():
    """Taking the padded tokens out altogether changes nothing for the others."""
    sequence = gaussian(60, padding="holes")
    real = sequence.real
    short = Sequence(q=sequence.q[:, real], k=sequence.k[:, real], v=sequence.v[:, real], causal=True)
    for variant in ("state", "decay", "gated", "delta"):
        whole, cut = small(variant).attend(sequence), small(variant).attend(short)
        assert_close(whole.output[:, real], cut.output, **EXACT)
        assert_close(whole.rows()[:, real][:, :, real], cut.rows(), **EXACT)


def test_the_delta_rule_overwrites_and_a_state_does_not():
    """Three values under one key: at β = 1 the last one is read back whole; a plain state gives their mean."""
    keys = torch.eye(4, dtype=torch.float64)[[0, 1, 0, 2, 0, 3]][None]
    values = torch.arange(6, dtype=torch.float64)[None, :, None]
    asked = torch.eye(4, dtype=torch.float64)[0].expand(1, 6, 4)
    sequence = Sequence(q=asked, k=keys, v=values, causal=True)
    rows = small("delta", beta=1.0).attend(sequence).rows(5)[0, 0]
    assert_close(rows, torch.tensor([0, 0, 0, 0, 1, 0]).double(), **EXACT)
    rows = small("delta", beta=0.5).attend(sequence).rows(5)[0, 0]
    assert_close(rows, torch.tensor([0.125, 0, 0.25, 0, 0.5, 0]).double(), **EXACT)
    plain = small("state").attend(sequence).rows(5)[0, 0]
    assert_close(plain[0].expand(3), plain[[0, 2, 4]], **EXACT)


def test_survival_is_what_a_write_still_gives_to_its_own_key():
    lags = torch.tensor([0, 1, 6, 12, 40])
    sequence = gaussian(40, heads=2, d=5)
    for variant in ("state", "decay", "gated", "delta"):
        setting = small(variant)
        asking = replace(sequence, q=sequence.k)
        attended = setting.attend(asking)
        survived = attended.survival(lags)
        for place, lag in enumerate(lags.tolist()[:-1]):
            expected = []
            for token in range(40 - lag):
                if variant == "delta":
                    same = replace(asking, q=asking.k[:, token : token + 1].expand(-1, 40, -1))
                    expected.append(setting.attend(same).rows(token + lag, token).flatten() / setting.beta)
                else:
                    gates = gates_of(setting, asking, asking.real, attended.trace.projection)
                    square = phi(asking.k[:, token]) ** 2
                    kept = gates[:, token + 1 : token + lag + 1].prod(1)
                    expected.append((square * kept).sum(-1) / square.sum(-1))
            assert_close(survived[:, place], torch.stack(expected).mean(0), **EXACT)
        assert bool(survived[:, -1].isnan().all()), "no token has 40 others after it"
        assert_close(survived[:, 0], torch.ones(2).double(), **EXACT)
    halved = small("decay").attend(sequence).survival(torch.tensor([6, 12]))
    assert_close(halved, torch.tensor([0.5, 0.25]).double().expand(2, 2), **EXACT)


@pytest.mark.parametrize("variant", ["state", "decay", "gated", "delta"])
def test_states_in_the_trace_are_those_of_the_recurrence(variant):
    n = 300
    sequence = gaussian(n, heads=1, d=4, e=3)
    setting = small(variant)
    trace = setting.attend(sequence).trace
    assert trace.ends.tolist() == sorted(trace.ends.tolist())
    assert int(trace.ends[-1]) == n - 1
    assert len(trace.ends) <= states.SNAPSHOTS
    k, v = sequence.k[0], sequence.v[0]
    state = torch.zeros(4, 3, dtype=torch.float64)
    found = {}
    gates = None if variant == "delta" else gates_of(setting, sequence, sequence.real, trace.projection)[0]
    for t in range(n):
        if gates is None:
            unit = k[t] / k[t].norm()
            state = state + setting.beta * torch.outer(unit, v[t] - unit @ state)
        else:
            state = gates[t][:, None] * state + torch.outer(phi(k[t]), v[t])
        found[t] = state
    for end, kept in zip(trace.ends.tolist(), trace.states[0], strict=True):
        assert_close(kept, found[end], rtol=1e-9, atol=1e-10)


def test_snapshots_stay_few_on_long_sequences():
    x = torch.zeros(1, 5000, 1)
    for variant in ("state", "gated", "delta"):
        trace = small(variant).attend(Sequence(q=x, k=x, v=x, causal=True)).trace
        assert 20 <= trace.states.shape[1] == len(trace.ends) <= states.SNAPSHOTS


@pytest.mark.parametrize("variant", ["decay", "gated"])
def test_fast_fading_stays_finite_in_single_precision(variant):
    """Factors e^(+fade) and e^(−fade) apart would overflow: over 128 tokens this state fades by e^−88 and more."""
    fine = gaussian(300, scale=12.0)
    setting = small(variant, half_life=1.0)
    coarse = setting.attend(fine.to(dtype=torch.float32))
    assert bool(torch.isfinite(coarse.output).all())
    assert bool(torch.isfinite(coarse.rows()).all())
    # Scores of a hundred lose two digits of the seven; weights are shares, values about 12.
    assert_close(coarse.output.double(), setting.attend(fine).output, rtol=1e-3, atol=1e-3)


def test_features_that_round_to_zero_do_not_divide_by_zero():
    x = torch.full((1, 10, 3), -1000.0)
    v = torch.arange(10.0)[None, :, None]
    for variant in ("state", "decay", "gated"):
        attended = small(variant).attend(Sequence(q=x, k=x, v=v, causal=True))
        assert_close(attended.rows().sum(-1), torch.ones(1, 10), rtol=1e-5, atol=1e-5)  # float32
    assert_close(small("state").attend(Sequence(q=x, k=x, v=v)).output[0, :, 0], torch.full((10,), 4.5), rtol=1e-5, atol=0)


def test_states_that_have_a_direction_refuse_an_unmasked_sequence():
    for variant in ("decay", "gated", "delta"):
        assert "causal mask" in small(variant).refuses(gaussian(4, causal=False))
        assert small(variant).refuses(gaussian(4)) is None
    for variant in ("cache", "compressed", "slots", "state"):
        assert small(variant).refuses(gaussian(4, causal=False)) is None


# ------------------------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(variant):
    """With padding, and with a whole segment of it, where a softmax over nothing would give not a number."""
    sequence = gaussian(11, heads=1, d=3, e=2)
    padding = torch.tensor([True] * 3 + [False] * 3 + [True, True, False, True, True])
    setting = small(variant, segment=3, memory=2)

    def output(q, k, v):
        return setting.attend(Sequence(q=q, k=k, v=v, causal=True, padding=padding)).output

    tensors = [x.clone().requires_grad_(True) for x in (sequence.q, sequence.k, sequence.v)]
    assert torch.autograd.gradcheck(output, tensors)


@pytest.mark.parametrize("variant", ["cache", "compressed", "slots"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_cost_counts_what_each_query_looks_at(variant, causal):
    n, d, e = 43, 8, 6
    attended = small(variant).attend(gaussian(n, heads=1, causal=causal))
    looks = sum(attended.read_count(0, query).count for query in range(n)) * (d + e)
    evicted = int(small("compressed").attend(gaussian(n)).trace.cached[-1, 0])
    extra = {"cache": 0, "compressed": evicted * (d + e), "slots": 3 * (2 * d + e) * (n + 9)}[variant]
    assert attended.cost.multiply_adds == looks + extra


def test_a_state_costs_the_same_for_every_token():
    for variant in ("state", "decay", "gated", "delta"):
        costs = [small(variant).attend(gaussian(n, heads=1)).cost.multiply_adds for n in (512, 1024)]
        assert costs[1] == 2 * costs[0]


@pytest.mark.parametrize("keys", [1, 2, 3, 16, 64, 200, 512])
@pytest.mark.parametrize("variant", ["cache", "compressed", "slots"])
def test_a_budget_is_kept(variant, keys):
    sequence = gaussian(512, heads=1, d=2, e=1)
    attended = small(variant).with_budget(keys, 512).attend(sequence)
    counts = [attended.read_count(0, query).count for query in range(511, 300, -7)]
    assert max(counts) <= max(keys, 3)
    assert max(counts) >= 0.6 * keys


def test_the_home_page_setting_uses_its_whole_budget():
    sequence = gaussian(512, heads=1, d=2, e=1)
    for variant in ("cache", "compressed"):
        assert Memory(variant=variant).with_budget(64, 512).attend(sequence).read_count(0, 511).count == 64
