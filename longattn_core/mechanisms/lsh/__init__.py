"""Locality-sensitive hashing: look only at keys that fell into one's own bucket, in any of a few random rounds."""

from longattn_core.mechanisms.lsh.mechanism import LSH

__all__ = ["LSH"]
