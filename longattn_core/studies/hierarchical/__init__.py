"""Hierarchical attention, measured: one query's descent, where descents go wrong, maps by level, cost and error.

Source: ours. `tree.py` cuts a sequence into paragraphs, sentences, words and tokens; `descent.py` follows one query;
`wrong_turns.py` counts where descents lose their target; `levels.py` pools maps by group; `gates.py` measures what each
level counts; `error.py` sweeps group sizes; `counts.py` holds the closed forms of what a query reads; `finding.py` chooses
the sentences.
"""

from longattn_core.studies.hierarchical.counts import Counts
from longattn_core.studies.hierarchical.descent import Descent
from longattn_core.studies.hierarchical.error import GroupError, Variants
from longattn_core.studies.hierarchical.finding import DescentFinding, descent_finding
from longattn_core.studies.hierarchical.gates import Gates
from longattn_core.studies.hierarchical.levels import LevelMaps
from longattn_core.studies.hierarchical.wrong_turns import WrongTurns

__all__ = ["Counts", "Descent", "DescentFinding", "Gates", "GroupError", "LevelMaps", "Variants", "WrongTurns", "descent_finding"]
