"""The guides of the documents as files that run.

`strided/` holds the example of CONTRIBUTING.md, each file at the path where the guide puts it. `python -m tests.guides` says
which documents are stale, and `python -m tests.guides --write` (or `make docs`) writes their generated parts anew.
"""
