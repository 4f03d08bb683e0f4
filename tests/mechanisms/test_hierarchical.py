"""Hierarchical attention: what is read at which level, that all is read once, and sentences that say so truly."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from longattn_core import Refused
from longattn_core.contracts.sequence import Levels, exact_rows
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.map import HierarchicalReason
from tests.oracles.hierarchical import membership, oracle
from tests.support.sentences import numbers_said
from tests.support.sequences import gaussian
from tests.support.sizes import largest_tensor

NESTED = ("product", "mean", "gate")
SETTINGS = [
    (variant, causal) for variant in (*NESTED, "near_far", "h1d") for causal in (True, False) if not (variant == "h1d" and causal)
]
every_setting = pytest.mark.parametrize(("variant", "causal"), SETTINGS)
both_masks = pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])


@pytest.mark.parametrize("padding", ["none", "holes", "left"])
@every_setting
def test_every_dial_agrees_with_the_definition(variant, causal, padding):
    settings = [
        Hierarchical(variant=variant, levels=3, fanout=3, groups="fanout", counts="one"),
        Hierarchical(variant=variant, levels=2, fanout=5, groups="fanout"),
        Hierarchical(variant=variant, levels=2, counts="one"),
        Hierarchical(variant=variant, levels=1),
    ]
    if variant not in NESTED:
        settings = [Hierarchical(variant=variant, block=block) for block in (2, 3, 6, 40)]
    for setting in settings:
        sequence = gaussian(33, causal=causal, padding=padding, heads=1)
        attended = setting.attend(sequence)
        output, rows, seen = oracle(setting, sequence, attended.trace)
        # Both are float64; only the order of the sums differs.
        assert_close(attended.output, output, rtol=1e-10, atol=1e-12)
        assert_close(attended.rows(), rows, rtol=1e-10, atol=1e-12)
        assert torch.equal(attended.kept(), seen)


def test_coarse_queries_are_not_causal():
    with pytest.raises(Refused, match="cannot be causal: use near_far"):
        Hierarchical(variant="h1d").attend(gaussian(9))


@pytest.mark.parametrize("variant", [*NESTED, "near_far"])
def test_a_prefix_is_read_as_it_was(variant):
    """Under a causal mask what follows changes nothing, wherever it begins: also in the middle of a group."""
    sequence = gaussian(70, padding="holes")
    for setting in (Hierarchical(variant=variant, block=4), Hierarchical(variant=variant, groups="fanout", fanout=3)):
        whole = setting.attend(sequence).output
        for n in (1, 6, 9, 14, 32, 41, 64):
            assert_close(setting.attend(sequence.prefix(n)).output, whole[:, :n], rtol=0, atol=1e-12)


@every_setting
def test_what_stands_in_padding_changes_nothing(variant, causal):
    sequence = gaussian(37, causal=causal, padding="holes")
    wild = gaussian(37, seed=5, scale=1e3)
    hole = ~sequence.real[:, None]
    changed = replace(sequence, **{x: torch.where(hole, getattr(wild, x), getattr(sequence, x)) for x in ("q", "k", "v")})
    setting = Hierarchical(variant=variant, block=4)
    assert torch.equal(setting.attend(sequence).output, setting.attend(changed).output)


@both_masks
@pytest.mark.parametrize("variant", ["product", "near_far"])
def test_groups_of_equal_keys_are_read_exactly_when_they_count_as_their_tokens(variant, causal):
    """If all keys of a group are one, its mean loses nothing: with ln N, and only with it, this is exact attention."""
    sequence = gaussian(48, causal=causal)
    sequence = replace(sequence, k=sequence.k[:, torch.arange(48) // 16 * 16])
    exact = exact_rows(sequence)
    setting = Hierarchical(variant=variant, groups="fanout", fanout=4, block=2)
    assert_close(setting.attend(sequence).rows(), exact, rtol=1e-10, atol=1e-12)
    if variant == "product" and causal:
        one = setting.with_dials(counts="one").attend(sequence)
        assert float((one.rows() - exact).abs().max()) > 0.01


@both_masks
@pytest.mark.parametrize("n", [1, 5, 63, 130, 301])
@pytest.mark.parametrize("block", [2, 3, 8, 30])
def test_blocks_cover_every_pair_exactly_once(n, block, causal):
    sequence = gaussian(n, heads=1, d=2, e=1, causal=causal, padding="holes")
    reading = Hierarchical(variant="near_far", block=block).attend(sequence).reading
    keys = reading.entries(torch.arange(n), torch.tensor([0])).keys[0]
    sizes = torch.cat([sequence.real.long(), *(groups.size for groups in reading.groups)])
    covered = torch.where(keys >= 0, sizes[keys.clamp_min(0)], 0).sum(-1)
    assert torch.equal(covered, sequence.allowed().sum(-1))


@both_masks
@pytest.mark.parametrize("variant", NESTED)
def test_levels_add_up_to_the_output(variant, causal):
    sequence = gaussian(50, causal=causal, padding="holes")
    attended = Hierarchical(variant=variant).attend(sequence)
    trace = attended.trace
    assert trace.names == ("token", "sentence", "paragraph")
    assert_close(trace.contributions.sum(0), attended.output, rtol=1e-10, atol=1e-12)
    assert_close(trace.gates.sum(-1), sequence.real.double().expand(2, -1), rtol=1e-11, atol=1e-12)
    joined = torch.zeros_like(attended.rows())
    for level in range(3):
        rows = attended.level_rows(level)
        gate = trace.gates[..., level, None]
        assert_close(gate * (rows @ sequence.v), trace.contributions[level], rtol=1e-10, atol=1e-12)
        joined += gate * rows
    assert_close(joined, attended.rows(), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match=r"level must lie in 0 … 2, found 3"):
        attended.level_rows(3)


def test_a_mean_of_levels_leaves_out_a_level_that_found_nothing():
    """The first token under a causal mask has no finished sentence and no finished paragraph behind it."""
    gates = Hierarchical(variant="mean").attend(gaussian(50)).trace.gates[0]
    assert gates[0].tolist() == [1, 0, 0]
    assert_close(gates[49], torch.full((3,), 1 / 3, dtype=torch.float64), rtol=1e-12, atol=0)


@both_masks
def test_levels_of_a_text_may_skip_numbers(causal):
    sequence = gaussian(12, causal=causal)
    sentence = torch.tensor([0, 0, 0, 2, 2, 2, 2, 5, 5, 5, 9, 9])
    dense = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3])
    paragraph = torch.tensor([0] * 7 + [4] * 5)
    outputs = [
        Hierarchical().attend(replace(sequence, levels=Levels(sentence=s, paragraph=p))).output
        for s, p in ((sentence, paragraph), (dense, paragraph // 4))
    ]
    assert torch.equal(*outputs)


def test_equal_groups_stand_in_where_a_text_has_no_sentences():
    sequence = gaussian(40)
    bare, fanned = replace(sequence, levels=None), Hierarchical(groups="fanout", fanout=4)
    tokens = torch.arange(40)
    levels = Levels(sentence=tokens // 4, paragraph=tokens // 16)
    output = fanned.attend(sequence).output
    assert torch.equal(Hierarchical(fanout=4).attend(bare).output, output)
    assert torch.equal(Hierarchical().attend(replace(sequence, levels=levels)).output, output)
    assert fanned.attend(sequence).trace.names == ("token", "group of 4", "group of 16")


@every_setting
@pytest.mark.slow
def test_every_explanation_is_true(variant, causal):
    levels = (3, 2) if variant == "product" else (3,)
    for depth in levels:
        setting = Hierarchical(variant=variant, levels=depth, groups="fanout", fanout=2, block=2)
        sequence = gaussian(12, causal=causal, padding="holes", heads=1)
        attended = setting.attend(sequence)
        rows = oracle(setting, sequence, attended.trace)[1][0]
        real = sequence.real.nonzero().flatten().tolist()
        pairs = [(query, key) for query in real for key in real if key <= query or not causal]
        check = check_nested if variant in NESTED else check_blocks
        alone = [attended.level_rows(level)[0] for level in range(len(attended.trace.names))]
        reasons = {check(attended, rows, alone, query, key) for query, key in pairs}
        assert len(reasons) >= 2


def masses(setting, sequence, row, key):
    """The row's weight on each group that holds the key, coarsest first, and on the key."""
    names = membership(setting, sequence)
    inside = [[t for t in range(sequence.n) if level[t] == level[key]] for level in reversed(names)]
    return [1.0, *(float(row[tokens].sum()) for tokens in inside), float(row[key])]


def check_nested(attended, rows, alone, query, key):
    setting, sequence, names = attended.mechanism, attended.sequence, attended.trace.names
    said = attended.explain(0, query, key)
    groups = membership(setting, sequence)
    assert said.weight == pytest.approx(float(rows[query, key]), rel=1e-9)
    # "3 levels" and "group of 4" name things; they are no facts.
    assert numbers_said(said) <= {str(len(names)), *(name.split()[-1] for name in names)}
    shared = [level for level in range(len(groups)) if groups[level][query] == groups[level][key]]
    read_at = min(shared) if shared else len(groups)
    if setting.variant == "product":
        assert said.facts["level"] == names[read_at]
        steps = masses(setting, sequence, rows[query], key)
        for name, outer, inner in zip(reversed(names), steps, steps[1:], strict=False):
            assert said.facts[f"p_{name}"] == pytest.approx(inner / outer, rel=1e-8)
        if read_at > 0:
            tokens = [t for t in range(sequence.n) if groups[read_at - 1][t] == groups[read_at - 1][key]]
            assert (said.facts["start"], said.facts["end"]) == (tokens[0], tokens[-1])
            assert said.facts["size"] == sum(bool(sequence.real[t]) for t in tokens)
        return said.reason
    parts = [said.facts[f"{name}_part"] for name in names]
    gates = [said.facts[f"{name}_gate"] for name in names]
    assert sum(parts) == pytest.approx(said.weight, rel=1e-9)
    assert sum(gates) == pytest.approx(1, rel=1e-9)
    for level, part in enumerate(parts):
        assert part == pytest.approx(gates[level] * float(alone[level][query, key]), rel=1e-9, abs=1e-15)
    assert (said.reason is HierarchicalReason.SEVERAL) == (sum(part > 0 for part in parts) > 1)
    return said.reason


def check_blocks(attended, rows, alone, query, key):
    setting, sequence = attended.mechanism, attended.sequence
    said = attended.explain(0, query, key)
    level = 0
    while abs(query // (setting.block << level) - key // (setting.block << level)) > 1:
        level += 1
    assert numbers_said(said) <= {"1"}
    assert said.weight == pytest.approx(float(rows[query, key]), rel=1e-9)
    assert (said.facts["level"], said.facts["distance"]) == (level, abs(query - key))
    assert (said.reason is HierarchicalReason.NEAR) == (level == 0)
    if level:
        tokens = [t for t in range(sequence.n) if t >> level == key >> level]
        assert (said.facts["start"], said.facts["end"]) == (tokens[0], tokens[-1])
        assert said.facts["size"] == sum(bool(sequence.real[t]) for t in tokens)
        assert said.facts["block_weight"] == pytest.approx(float(rows[query, tokens].sum()), rel=1e-9)
        if setting.variant == "h1d":
            asking = [t for t in range(sequence.n) if t >> level == query >> level]
            assert (said.facts["query_start"], said.facts["query_end"]) == (asking[0], asking[-1])
    return said.reason


@every_setting
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(variant, causal):
    sequence = gaussian(9, heads=1, d=2, e=2, causal=causal, padding="holes")
    setting = Hierarchical(variant=variant, groups="fanout", fanout=2, block=2)

    def output(q, k, v):
        return setting.attend(replace(sequence, q=q, k=k, v=v)).output

    inputs = tuple(x.clone().requires_grad_(True) for x in (sequence.q, sequence.k, sequence.v))
    assert torch.autograd.gradcheck(output, inputs)


@every_setting
def test_nothing_of_size_n_by_n_is_ever_made(variant, causal):
    n = 8192
    sequence = gaussian(n, heads=1, d=4, e=4, causal=causal, dtype=torch.float32, calibrated=False)
    setting = Hierarchical(variant=variant, groups="fanout", fanout=16, block=16)
    assert largest_tensor(lambda: setting.attend(sequence)) <= n * n // 8


@pytest.mark.parametrize("keys", [64, 128, 300, 512])
@pytest.mark.parametrize("variant", ["product", "near_far"])
def test_the_budget_is_about_what_a_query_looks_at(variant, keys):
    attended = Hierarchical(variant=variant).with_budget(keys, 512).attend(gaussian(512, heads=1, d=2, e=1, calibrated=False))
    most = max(attended.read_count(0, query).count for query in range(0, 512, 3))
    assert 0.5 * keys <= most <= 1.5 * keys
