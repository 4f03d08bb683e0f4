"""Whether the numbers of a sentence are those of its facts."""

import re

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def numbers_said(explanation):
    """The numbers in the sentence that are none of its facts, nor the two weights of the pair."""
    known = {explanation.weight, explanation.exact, *explanation.facts.values()}
    said = {f"{x:.3g}" for x in known if isinstance(x, float)} | {str(x) for x in known if not isinstance(x, float)}
    names = set(NUMBER.findall(" ".join(x for x in known if isinstance(x, str))))
    return set(NUMBER.findall(explanation.text)) - said - names
