"""The studies of random features: the estimate pair by pair, its errors, its running state, and the paper's theory."""

from longattn_core.studies.favor.denominators import Denominators
from longattn_core.studies.favor.finding import Finding, finding
from longattn_core.studies.favor.heads import HeadsSuited
from longattn_core.studies.favor.kernel_errors import KernelErrors
from longattn_core.studies.favor.pairs import Pairs, deviations
from longattn_core.studies.favor.redraws import Redraws
from longattn_core.studies.favor.state import RunningState
from longattn_core.studies.favor.sweeps import ErrorAgainstFeatures, ErrorAgainstSharpness, LearnedAgainstDrawn
from longattn_core.studies.favor.theory import Orthogonality, RatioSurface, SphereKernel, Symmetry

__all__ = [
    "Denominators",
    "ErrorAgainstFeatures",
    "ErrorAgainstSharpness",
    "Finding",
    "HeadsSuited",
    "KernelErrors",
    "LearnedAgainstDrawn",
    "Orthogonality",
    "Pairs",
    "RatioSurface",
    "Redraws",
    "RunningState",
    "SphereKernel",
    "Symmetry",
    "deviations",
    "finding",
]
