"""The largest sequences of every kind: what a laptop can hold besides the memory of a mechanism."""

__all__ = ["MAX_NUMBERS", "MAX_TOKENS", "check_size"]

MAX_TOKENS = 65_536
MAX_NUMBERS = 1 << 27
"""Numbers in q, k and v together: 512 MB in float32."""


def check_size(heads: int, n: int, d: int, e: int) -> None:
    """Raises: ValueError, one sentence, when q, k and v together hold too many numbers."""
    numbers = heads * n * (2 * d + e)
    if numbers > MAX_NUMBERS:
        raise ValueError(
            f"{heads} heads × {n:,} tokens × (2·{d} + {e}) channels are {numbers:,} numbers; "
            f"at most {MAX_NUMBERS:,} are allowed: take fewer heads, fewer tokens or narrower ones"
        )
