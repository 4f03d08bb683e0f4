"""Speed and memory, measured: `make bench`. No speed is reported where a check is red."""
