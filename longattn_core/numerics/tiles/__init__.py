"""Blocks of queries against blocks of keys: how a map is read tile by tile."""
