"""All mechanisms beside each other: one query at one budget, and fidelity against cost."""
