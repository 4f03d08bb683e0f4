"""The peak memory of this process, and that of a single call in a process of its own."""

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
"""Tokens of the call before the measured one, so that what the first call loads and keeps is not counted."""


def peak_megabytes() -> float:
    """Peak resident megabytes of this process alone.

    After fork and exec `ru_maxrss` begins with the memory of the parent, so the program's own peak is read where the kernel
    reports it.
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
    """The peak megabytes of `prepared(*arguments, n)()` above what its process holds once the inputs are made.

    `prepared` must be a function of a module. Returns a sentence when the process fails or takes more than `seconds`.
    """
    context = multiprocessing.get_context("forkserver")
    # Forked from a process that has loaded everything and run nothing: it starts quickly, and holds nothing from earlier calls.
    context.set_forkserver_preload(["benchmarks.cells"])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measured, args=(sender, prepared, arguments, n))
    child.start()
    sender.close()
    try:
        answer: float | str = receiver.recv() if receiver.poll(seconds) else f"more than {seconds:.0f} s"
    except EOFError:
        child.join()
        # Only the system sends this signal: to the largest process, when no memory is left.
        killed = child.exitcode == -signal.SIGKILL
        answer = "out of memory: the system ended the process" if killed else "the process ended before its time"
    child.kill()
    child.join()
    return answer


def _forget_peak() -> None:
    """Reset the peak to the memory held now, where the kernel can: making the inputs may have needed more."""
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
