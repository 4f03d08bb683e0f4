"""Before anything is timed: ours against its oracle, a peer against its own. What fails has a sentence in place of a speed."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.peer_oracles import ORACLES
from benchmarks.peers import PEERS
from benchmarks.settings import PeerSetting, Plan, Row
from longattn_core.contracts.mechanism import Attended

HEADS = 1
PEER_LENGTH, PEER_HEADS = 512, 2

TOLERANCE = 1e-5
"""Of the row that is furthest off, as a share of its length. A score is a sum of 64 products; in float32 it is rounded by
some 1e-6, and the weight made of it by the same share: sound cells are within 2e-6, and what is left out shows above 1e-4.
"""

FEATURES = 3e-5
"""For features, whose exponents go up to about 30, so that each is rounded by 2e-6 of itself: sound cells are within 5e-6."""

TIES = frozenset({"lsh", "routed", "probsparse"})
"""Mechanisms that take the largest of many: a rounding may send a token into another bucket, and the rows near it."""

DRAWS = 3
"""Inputs of which one must agree where there are ties: a fault is in all of them, a tie that fell the other way is not."""

SAMPLED = 32
AT_LENGTH = 1e-3
"""Of the sampled outputs where a cell is timed; the map that they are held against is in float32 too."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`fault` is None when the gate is open. `distance` is how far the furthest row lies from the oracle's, as a share of its
    length, `bug_moves` what the peer's bug moves an output at most (None: it has none).
    """

    fault: str | None
    distance: float = 0.0
    bug_moves: float | None = None


def gate_ours(plan: Plan, row: Row) -> Verdict:
    """Our call as it is timed, in float32 and with the threads that are set, against the oracle of tests/oracles in float64."""
    n = row.gate_length or plan.gate_length
    setting = row.ours(n)
    oracle = importlib.import_module(f"tests.oracles.{setting.key}").oracle
    tolerance = FEATURES if setting.key == "favor" else TOLERANCE
    verdict = Verdict(fault="no input was drawn")
    for draw in range(DRAWS if setting.key in TIES else 1):
        sequence = plan.sequence(n, causal=row.causal, heads=HEADS, draw=draw)
        if (refusal := setting.refuses(sequence)) is not None:
            return Verdict(fault=refusal)
        attended = setting.attend(sequence)
        expected = oracle(setting, sequence.to(dtype=torch.float64), attended.trace)[0]
        verdict = _compared(attended.output, expected, tolerance)
        if verdict.fault is None:
            break
    return verdict


def gate_peer(plan: Plan, row: Row, peer: PeerSetting) -> Verdict:
    """The peer's output in float32, in which it is timed, against its definition with its named bug in float64."""
    if peer.compiled and plan.minutes is not None:
        return Verdict(fault="compiling takes longer than the quick run")
    oracle, arguments = ORACLES[peer.name], peer.at(PEER_LENGTH)
    verdict = Verdict(fault="no input was drawn")
    for draw in range(DRAWS if oracle.ties else 1):
        sequence = plan.sequence(PEER_LENGTH, causal=row.causal, heads=PEER_HEADS, draw=draw)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                built = PEERS[peer.name](sequence, **arguments)
                output = built.output(built.attend())
        except ImportError as error:
            return Verdict(fault=f"not installed: {error}")
        except Exception as error:  # a peer may fail in any way: its cell says so, and the others are measured
            return Verdict(fault=f"does not run: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
        fine, drawn = sequence.to(dtype=torch.float64), built.draw()
        verdict = _compared(output, oracle.compute(fine, drawn, arguments, True), oracle.tolerance)
        if oracle.bug is not None:
            moved = float((output.double() - oracle.compute(fine, drawn, arguments, False)).abs().max())
            verdict = replace(verdict, bug_moves=moved)
        if verdict.fault is None:
            break
    return verdict


def at_length(attended: Attended) -> str | None:
    """None when, at the length that is timed, rows of implied weights times the values give the output: of some queries
    from the first to the last, in the first and the last head.
    """
    n = attended.sequence.n
    chosen = torch.linspace(0, n - 1, min(n, SAMPLED)).long()
    heads = [0, attended.sequence.h - 1]
    implied = attended.rows(chosen, heads=heads) @ attended.sequence.v[heads]
    if attended.offset is not None:
        implied = implied + attended.offset[heads][:, chosen]
    error = float((implied - attended.output[heads][:, chosen]).abs().max())
    return None if error < AT_LENGTH else f"red: at n = {n:,} rows @ v differ from the output by {error:.1g}"


def _compared(output: Tensor, expected: Tensor, tolerance: float) -> Verdict:
    apart = (output.double() - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-3)
    distance = float(apart.max())
    # A comparison with a NaN is false: only what is small passes.
    if distance <= tolerance:
        return Verdict(fault=None, distance=distance)
    return Verdict(fault=f"red: a row differs from the oracle's by {distance:.1g} of its length", distance=distance)
