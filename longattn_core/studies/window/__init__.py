"""What a window with sinks keeps of a head: ledgers, patterns, widths, reach, swaps, and active queries."""
