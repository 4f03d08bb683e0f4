"""One page, one question: composition only."""
