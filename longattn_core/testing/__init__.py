"""The common checks, for any mechanism: those of this project, and yours.

>>> from longattn_core.testing import check_mechanism
>>> check_mechanism(MyMechanism)

`check_mechanism` raises one AssertionError that names every check that failed, with the setting, the sequence, and what was
expected. `check_against_oracle` compares with an independent implementation. With pytest, each check becomes a test:

>>> @pytest.mark.parametrize("check", checks(), ids=str)
... def test_my_mechanism(check):
...     check(MyMechanism)

The checks need neither pytest nor hypothesis. One file holds the checks of one subject:

| file | holds checks of |
|---|---|
| `facts.py` | what the class states: title, dials, variants, refusals |
| `output.py` | output and map: `rows @ v + offset == output`, mask, padding, rows that sum to 1 |
| `precision.py` | float32, seeds, heads, gradients |
| `causality.py` | later tokens, which must not change earlier outputs |
| `views.py` | parts of the map, pooled maps, explanations, read counts |
| `limits.py` | the exact setting, the ladder, budgets, the cost |

`check.py` runs a check and words its failure; `sequences.py` makes the sequences that the checks read.
"""

from longattn_core.testing.check import Check, CheckError
from longattn_core.testing.run import check_against_oracle, check_mechanism, checks
from longattn_core.testing.sequences import Given, gaussian

__all__ = ["Check", "CheckError", "Given", "check_against_oracle", "check_mechanism", "checks", "gaussian"]
