"""What is lost at a cut: the mass that cuts sever, where to cut, how wide, how far layers reach, and one query's row."""

from longattn_core.studies.segmented.cuts import Cuts
from longattn_core.studies.segmented.finding import (
    CutFinding,
    PlaceFinding,
    WidthFinding,
    cut_finding,
    place_finding,
    width_finding,
)
from longattn_core.studies.segmented.patterns import SegmentPatterns
from longattn_core.studies.segmented.reach import INTEGRATIONS, SegmentReach
from longattn_core.studies.segmented.sentences import SentenceCuts
from longattn_core.studies.segmented.steps import SegmentSteps
from longattn_core.studies.segmented.widths import SegmentWidths

__all__ = [
    "INTEGRATIONS",
    "CutFinding",
    "Cuts",
    "PlaceFinding",
    "SegmentPatterns",
    "SegmentReach",
    "SegmentSteps",
    "SegmentWidths",
    "SentenceCuts",
    "WidthFinding",
    "cut_finding",
    "place_finding",
    "width_finding",
]
