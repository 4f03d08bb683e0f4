"""The most memory that a process has held, and that of one call in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import torch

BEFORE = 512
"""Tokens of the call that goes before, so that what a first call loads and keeps is not counted."""


def peak_megabytes() -> float:
    """Peak resident megabytes of this process alone.

    `ru_maxrss` begins, after fork and exec, at what the parent held: where the kernel tells the program's own peak, that is read.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_of_a_call(
    prepared: Callable[..., Callable[[], object]], arguments: tuple[object, ...], n: int, seconds: float
) -> float | str:
    """Megabytes that `prepared(*arguments, n)()` held at most above what its process held with the inputs made.

    `prepared` must be a function of a module. A sentence when the process failed or took more than `seconds`.
    """
    context = multiprocessing.get_context("forkserver")
    # A fork of a process that has loaded everything and run nothing: quick to begin, and nothing is left in it.
    context.set_forkserver_preload(["benchmarks.cells"])
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_measured, args=(there, prepared, arguments, n))
    child.start()
    there.close()
    try:
        answer: float | str = here.recv() if here.poll(seconds) else f"more than {seconds:.0f} s"
    except EOFError:
        child.join()
        # Nobody else sends this signal: the system does, to the largest process, when there is no memory left.
        killed = child.exitcode == -signal.SIGKILL
        answer = "out of memory: the system ended the process" if killed else "the process ended before its time"
    child.kill()
    child.join()
    return answer


def _forget_peak() -> None:
    """Begin the peak anew at what is held now, where the kernel can: what made the inputs may have held more."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _measured(
    answer: multiprocessing.connection.Connection,
    prepared: Callable[..., Callable[[], object]],
    arguments: tuple[object, ...],
    n: int,
) -> None:
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            prepared(*arguments, min(n, BEFORE))()
            call = prepared(*arguments, n)
            _forget_peak()
            before = peak_megabytes()
            held = call()
            answer.send(peak_megabytes() - before)
            del held
    except Exception as error:
        answer.send(f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")
