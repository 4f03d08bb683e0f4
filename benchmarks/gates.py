"""The checks before any timing: ours is compared with its oracle, a peer with its own. What fails gets a sentence, no speed."""

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
"""The largest error of a row, as a share of its length. A score is a sum of 64 products; in float32 its rounding error is about
1e-6, and so is the relative error of its weight. Correct cells are within 2e-6; anything left out shows above 1e-4.
"""

FEATURES = 3e-5
"""The same for features: their exponents reach about 30, with rounding errors of 2e-6. Correct cells are within 5e-6."""

TIES = frozenset({"lsh", "routed", "probsparse"})
"""Mechanisms that take a maximum: rounding may put a token into another bucket, which changes the rows around it."""

DRAWS = 3
"""Inputs for these mechanisms, of which one must agree: an error shows in all of them, a tie only in some."""

SAMPLED = 32
AT_LENGTH = 1e-3
"""The largest error of sampled outputs at the timed length; the map with which they are compared is in float32 too."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`fault` is None when the cell passes. `distance` is the largest error of a row, as a share of its length; `bug_moves` is
    the largest change of an output by the peer's named bug (None: it has none).
    """

    fault: str | None
    distance: float = 0.0
    bug_moves: float | None = None


def gate_ours(plan: Plan, row: Row) -> Verdict:
    """Compare our call as it is timed (float32, the number of threads that is set) with its oracle in tests/oracles (float64)."""
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
    """Compare the peer's output in float32, as it is timed, with its definition including its named bug in float64."""
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
        except Exception as error:  # a peer may fail in any way: its cell reports it, and the others are measured
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
    """Whether the output at the timed length is rows @ v, for some queries from the first to the last, in the first and the last
    head: None if it is, else the fault.
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
    # A comparison with NaN is false, so NaN does not pass.
    if distance <= tolerance:
        return Verdict(fault=None, distance=distance)
    return Verdict(fault=f"red: a row differs from the oracle's by {distance:.1g} of its length", distance=distance)
