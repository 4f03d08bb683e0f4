"""What a visitor sees who has chosen nothing: the text, and the studies that the server computes before anyone comes."""

from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.study import Study

DEFAULT_KEYS = 64
DEFAULT_LENGTH = 512
FIRST_TEXT = TextSource(sample="story.txt", length=DEFAULT_LENGTH)


def first_studies() -> tuple[Study, ...]:
    """The default page's studies, the one that is seen first at the front."""
    # Here and not above: the server has the text read while all this is imported.
    from longattn_core.studies.side_by_side.compare import Compare
    from longattn_core.studies.side_by_side.frontier import Frontier

    return Compare(source=FIRST_TEXT, keys=DEFAULT_KEYS), Frontier(source=FIRST_TEXT)
