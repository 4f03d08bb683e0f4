"""65,536 tokens in under 1.5 GB: every variant of every mechanism that promises less than n², in a process of its own.

The output, some rows, the mean map of all and of a window of single tokens. Work on a map is counted in numbers made, not timed:
a whole map makes fewer than n², and a window a small part of that.
"""

import json
import subprocess
import sys

import pytest

from longattn_core import MECHANISMS

TOKENS, MOST_MEGABYTES = 65_536, 1500

PROGRAM = f"""
import json, sys, torch
from benchmarks.memory import peak_megabytes
from longattn_core import Sequence, mechanism
from tests.sizes import numbers_made
torch.set_num_threads(1)
source = torch.Generator().manual_seed(0)
q, k, v = (torch.randn(1, {TOKENS}, 64, generator=source) for _ in range(3))
for causal in (True, False):
    sequence = Sequence(q=q, k=k, v=v, causal=causal)
    setting = mechanism(sys.argv[1], **json.loads(sys.argv[2]))
    if setting.refuses(sequence) is None:
        break
else:
    sys.exit("refused")
with torch.inference_mode():
    attended = setting.attend(sequence)
    rows = attended.rows([0, 40_000, {TOKENS - 1}])
    maps = []
    whole = numbers_made(lambda: maps.append(attended.pooled(heads=0)))
    part = numbers_made(lambda: maps.append(attended.pooled((65_000, 65_100), (40_000, 40_400))))
    exact_window = attended.rows(slice(65_000, 65_100), slice(40_000, 40_400))
    wrong = float((maps[1] - exact_window).abs().max() / (exact_window.abs().max() + 1e-30))
    halves = [attended.rows(slice(start, start + 64)) for start in ({TOKENS} - 128, {TOKENS} - 64)]
    tall = sum(half.unflatten(2, (512, 128)).mean((1, 3)) for half in halves) / 2
    wrong = max(wrong, float((maps[0][:, -1] - tall).abs().max() / tall.abs().max()))
implied = rows @ v + (0 if attended.offset is None else attended.offset[:, [0, 40_000, {TOKENS - 1}]])
output = attended.output[:, [0, 40_000, {TOKENS - 1}]]
error = float((implied - output).norm() / output.norm())
print(json.dumps([peak_megabytes(), error, wrong, whole / {TOKENS} ** 2, part / {TOKENS} ** 2]))
"""

LONG = [
    setting
    for kind in MECHANISMS.values()
    if not kind.quadratic
    for setting in kind.variants()
    if not (kind.key == "low_rank" and setting.model_dump()["variant"] == "svd")  # an oracle of n³, by its own word
]


@pytest.mark.parametrize("setting", LONG, ids=lambda s: f"{s.key} {s.label}")
def test_long_sequences_fit_in_memory(setting):
    dials = json.dumps(setting.model_dump(mode="json"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, setting.key, dials], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    megabytes, error, wrong, whole, part = json.loads(done.stdout)
    assert megabytes < MOST_MEGABYTES
    assert error < 1e-4  # relative; single precision over 65,536 terms
    assert wrong < 1e-3  # of the largest weight: features of two ways round differently
    assert whole < 1 and part < 0.1
