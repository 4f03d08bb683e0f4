"""Attention over lists of keys: sorting tokens into lists, attending inside them, and the map that follows."""
