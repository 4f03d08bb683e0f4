"""Each mechanism once more, from its definition, in plain float64: slow, and independent of longattn_core."""
