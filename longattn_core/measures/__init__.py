"""What is measured of a mechanism: fidelity, spread, reach and cost; and closed forms from theory.

`sampling.py` chooses the queries that a measure reads, `reference.py` computes the exact side of a comparison.
"""
