"""65,536 tokens in under 1.5 GB: every variant of every mechanism that promises less than n², in a process of its own.

The output, some rows, the mean map of all and of a window of single tokens. Work on a map is counted in numbers made, not timed:
a whole map makes fewer than n², and a window a small part of that.
"""

import pytest

from longattn_core import MECHANISMS
from tests.support.long_sequence import in_a_fork

pytestmark = pytest.mark.slow

MOST_MEGABYTES = 1500

LONG = [
    setting
    for kind in MECHANISMS.values()
    if not kind.quadratic
    for setting in kind.variants()
    if not (kind.key == "low_rank" and setting.model_dump()["variant"] == "svd")  # an oracle of n³, by its own word
]


@pytest.mark.parametrize("setting", LONG, ids=lambda s: f"{s.key} {s.label}")
def test_long_sequences_fit_in_memory(setting):
    megabytes, error, wrong, whole, part = in_a_fork(setting.key, setting.model_dump(mode="json"))
    assert megabytes < MOST_MEGABYTES
    assert error < 1e-4  # relative; single precision over 65,536 terms
    assert wrong < 1e-3  # of the largest weight: features of two ways round differently
    assert whole < 1 and part < 0.1
