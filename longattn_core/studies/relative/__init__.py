"""How positions change scores: curves over distance, rotary clocks, and the closed forms."""
