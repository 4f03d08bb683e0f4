"""Figures, tables and studies as files, without a browser."""
