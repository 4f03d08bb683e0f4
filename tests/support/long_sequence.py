"""One setting reads 65,536 tokens: what a process of its own holds at most, and how its maps agree with its output.

Imported in a process that has run nothing, and forked there for each setting: what takes seconds to load is loaded once.
"""

import multiprocessing
import multiprocessing.connection
import traceback
from pathlib import Path

import torch
import torch._dynamo  # whatever counts numbers loads it

from benchmarks.memory import peak_megabytes
from longattn_core import MECHANISMS, Sequence
from tests.support.sizes import numbers_made

TOKENS = 65_536
LOADED = peak_megabytes()
"""Megabytes that a process holds that has loaded `MECHANISMS`, which names them all, and everything that measures."""


def in_a_fork(key, dials):
    """`measures(key, dials)` from a process that begins where the fork of one that has only loaded begins."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_sends, args=(there, key, dials))
    child.start()
    there.close()
    try:
        found, fault = here.recv()
    except EOFError:
        found, fault = None, "the process ended before its time"
    child.join()
    assert fault is None, fault
    return found


def _sends(answer: multiprocessing.connection.Connection, key, dials):
    try:
        answer.send((measures(key, dials), None))
    except Exception:
        answer.send((None, traceback.format_exc()[-2000:]))


def measures(key, dials):
    """Megabytes, the error of rows against output, that of the maps against rows, and numbers made of a map's n²."""
    torch.set_num_threads(1)
    # A fork begins with the pages that it has touched itself: what the others held is added as it was, none left out.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    began = peak_megabytes()
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, TOKENS, 64, generator=source) for _ in range(3))
    setting = MECHANISMS[key].model_validate(dials)
    either = (Sequence(q=q, k=k, v=v, causal=causal) for causal in (True, False))
    sequence = next(sequence for sequence in either if setting.refuses(sequence) is None)
    with torch.inference_mode():
        attended = setting.attend(sequence)
        rows = attended.rows([0, 40_000, TOKENS - 1])
        maps = []
        whole = numbers_made(lambda: maps.append(attended.pooled(heads=0)))
        part = numbers_made(lambda: maps.append(attended.pooled((65_000, 65_100), (40_000, 40_400))))
        exact_window = attended.rows(slice(65_000, 65_100), slice(40_000, 40_400))
        wrong = float((maps[1] - exact_window).abs().max() / (exact_window.abs().max() + 1e-30))
        halves = [attended.rows(slice(start, start + 64)) for start in (TOKENS - 128, TOKENS - 64)]
        tall = sum(half.unflatten(2, (512, 128)).mean((1, 3)) for half in halves) / 2
        wrong = max(wrong, float((maps[0][:, -1] - tall).abs().max() / tall.abs().max()))
    implied = rows @ v + (0 if attended.offset is None else attended.offset[:, [0, 40_000, TOKENS - 1]])
    output = attended.output[:, [0, 40_000, TOKENS - 1]]
    error = float((implied - output).norm() / output.norm())
    return LOADED + peak_megabytes() - began, error, wrong, whole / TOKENS**2, part / TOKENS**2
