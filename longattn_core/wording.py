"""Words of the core's explanations, which are plain English sentences."""


def noun_for(count: int, singular: str) -> str:
    """The form of a regular noun after a count: "token" after 1, else "tokens". `count` may be a fact of an explanation."""
    return singular if count == 1 else f"{singular}s"
