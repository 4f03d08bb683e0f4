"""Hierarchical attention, measured: one query's descent, where descents go wrong, maps by level, cost and error.

Source: ours. `tree.py` cuts a sequence into paragraphs, sentences, words and tokens; `descent.py` follows one query; `wrong.py`
counts where descents lose their target; `levels.py` pools maps by group; `error.py` sweeps group sizes; `counts.py` holds the
closed forms of what a query reads; `finding.py` chooses the sentences.
"""

from longattn_core.studies.hierarchical.counts import Counts
from longattn_core.studies.hierarchical.descent import Descent
from longattn_core.studies.hierarchical.error import GroupError, Variants
from longattn_core.studies.hierarchical.finding import Finding, finding
from longattn_core.studies.hierarchical.levels import Gates, LevelMaps
from longattn_core.studies.hierarchical.wrong_turns import WrongTurns

__all__ = ["Counts", "Descent", "Finding", "Gates", "GroupError", "LevelMaps", "Variants", "WrongTurns", "finding"]
