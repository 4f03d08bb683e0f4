"""The three ways to get a sequence: a real text, a synthetic one that isolates a property, an uploaded file."""
