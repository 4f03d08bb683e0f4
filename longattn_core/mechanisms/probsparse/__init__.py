"""ProbSparse: only the queries with the most uneven scores attend; all others take the mean of the values.

`mechanism.py`: the dials and the output. `choosing.py`: the sample of keys, the measure and the ranks that decide which queries
attend. `map.py`: the map and its sentences.
"""

from longattn_core.mechanisms.probsparse.mechanism import ProbSparse

__all__ = ["ProbSparse"]
