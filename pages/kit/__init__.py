"""The app's own parts: frame, input bar, dials drawn from a model's fields, figure card, components."""
