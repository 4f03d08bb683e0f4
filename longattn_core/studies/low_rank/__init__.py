"""How many numbers a map holds: its spectrum, its factors step by step, and errors over rank and length."""
