"""Strides in a formula: how many pairs are left."""

from __future__ import annotations

from pages.kit.context import Page
from pages.kit.sections import formula
from pages.strided.hero import Stepped


def theory(page: Page, strides: Stepped) -> None:
    """The number of pairs, with today's numbers."""
    n, stride = page.tokens, strides.mechanism.stride
    pairs = sum(query // stride + 1 for query in range(n))
    formula(page, "pairs", n=n, stride=stride, pairs=pairs, share=pairs / (n * (n + 1) / 2))
