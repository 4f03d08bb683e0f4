"""What is measured of a mechanism: fidelity, spread, reach, cost, and the closed forms of theory."""
