"""Who may look at whom: what each head does, what a mask hides, and which heads share keys."""
