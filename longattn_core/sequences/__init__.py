"""The three kinds of sequence: a text, a synthetic sequence that isolates one property, an uploaded file.

`sources.py` describes each as a frozen model; `text.py`, `synthetic/` and `uploaded.py` make the sequences.
"""
