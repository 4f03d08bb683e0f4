"""What all figures share: theme, colours, scales, symbols, labels and legends."""
