"""Before anything is timed: ours against its oracle, a peer against its own. What fails has a sentence in place of a speed."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.peer_oracles import ORACLES
from benchmarks.peers import PEERS
from benchmarks.settings import PeerSetting, Plan, Row
from longattn_core.contracts import Attended

HEADS = 1
PEER_LENGTH, PEER_HEADS = 512, 2

TOLERANCE = 1e-8
SINGLE = 1e-4
"""Of float32: the median row's difference, because one rounding may send a token into another bucket."""

SAMPLED = 8


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`fault` is None when the gate is open. `distance` is the largest difference from the oracle, `bug_moves` what the
    peer's bug moves at most (None: it has none).
    """

    fault: str | None
    distance: float = 0.0
    bug_moves: float | None = None


def gate_ours(plan: Plan, row: Row) -> Verdict:
    """Our output in float64 and in float32 against the independent oracle of tests/oracles."""
    setting = row.ours(plan.gate_length)
    sequence = plan.sequence(plan.gate_length, causal=row.causal, heads=HEADS, dtype=torch.float64)
    if (refusal := setting.refuses(sequence)) is not None:
        return Verdict(fault=refusal)
    attended = setting.attend(sequence)
    oracle = importlib.import_module(f"tests.oracles.{setting.key}").oracle
    expected = oracle(setting, sequence, attended.trace)[0]
    rounded = sequence.to(dtype=torch.float32)
    single = setting.attend(rounded)
    apart = _median_apart(single.output, expected)
    if not apart <= SINGLE:
        # A fit that was a tie may have fallen the other way: then the oracle is asked with what was fitted in float32.
        apart = _median_apart(single.output, oracle(setting, rounded, single.trace)[0])
    if not apart <= SINGLE:
        return Verdict(fault=f"red: in float32 the median row differs from the oracle's by {apart:.1g}")
    return _compared(attended.output, expected, TOLERANCE)


def gate_peer(plan: Plan, row: Row, peer: PeerSetting) -> Verdict:
    """The peer's output against its definition with its named bug."""
    if peer.compiled and plan.minutes is not None:
        return Verdict(fault="compiling takes longer than the quick run")
    oracle = ORACLES[peer.name]
    sequence = plan.sequence(PEER_LENGTH, causal=row.causal, heads=PEER_HEADS, dtype=oracle.dtype)
    arguments = peer.at(PEER_LENGTH)
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
    if oracle.bug is None:
        return verdict
    moved = float((output.double() - oracle.compute(fine, drawn, arguments, False)).abs().max())
    return Verdict(fault=verdict.fault, distance=verdict.distance, bug_moves=moved)


def at_length(attended: Attended) -> str | None:
    """None when, at the length that is timed, a few rows of implied weights times the values give the output."""
    n = attended.sequence.n
    chosen = torch.linspace(0, n - 1, min(n, SAMPLED)).long()
    implied = attended.rows(chosen, heads=[0]) @ attended.sequence.v[:1]
    if attended.offset is not None:
        implied = implied + attended.offset[:1, chosen]
    error = float((implied - attended.output[:1, chosen]).abs().max())
    return None if error < 1e-3 else f"red: at n = {n:,} rows @ v differ from the output by {error:.1g}"


def _median_apart(output: Tensor, expected: Tensor) -> float:
    """The median row's distance as a share of its length."""
    apart = (output.double() - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-3)
    return float(apart.median())


def _compared(output: Tensor, expected: Tensor, tolerance: float) -> Verdict:
    distance = float((output.double() - expected).abs().max())
    # A comparison with a NaN is false: only what is small passes.
    if distance <= tolerance:
        return Verdict(fault=None, distance=distance)
    return Verdict(fault=f"red: differs from the oracle by {distance:.1g}", distance=distance)
