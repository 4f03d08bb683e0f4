"""What a visitor sees who has chosen nothing: the studies that the server computes before anyone comes."""

from longattn_core.sequences.sources import TextSource
from longattn_core.studies.compare import Compare
from longattn_core.studies.frontier import Frontier
from longattn_core.studies.study import Study

DEFAULT_KEYS = 64
DEFAULT_LENGTH = 512


def first_studies() -> tuple[Study, ...]:
    """The default page's studies, the one that is seen first at the front."""
    source = TextSource(sample="story.txt", length=DEFAULT_LENGTH)
    return Compare(source=source, keys=DEFAULT_KEYS), Frontier(source=source)
