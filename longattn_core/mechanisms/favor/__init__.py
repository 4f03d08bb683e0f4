"""FAVOR+ (the Performer): draw random features whose products estimate e^(q·k/√d), then never compare a pair."""

from longattn_core.mechanisms.favor.mechanism import Favor

__all__ = ["Favor"]
