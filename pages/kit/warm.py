"""What a server does before its first visitor: heavy imports in a safe order, the model, the default page's studies."""

from __future__ import annotations

import gc
import sys

TURN = 0.001
"""Seconds after which a thread that computes in Python lets another one go on: a page need not wait long for a sweep."""


def warm_up() -> None:
    """Import, load, compute the default text's first picture, then freeze the collector.

    The order matters: importing plotly before numpy from several sessions at once has failed. Freezing moves all
    that was imported out of the collector's sight, which Streamlit calls after every run. Without the weights the
    synthetic sequences still work, so their absence is no error here.
    """
    sys.setswitchinterval(TURN)
    import numpy as np  # noqa: F401
    import torch

    torch.set_num_threads(1)
    import altair as alt  # noqa: F401

    from longattn_core.language_model.weights import weights_available
    from longattn_core.registry import mechanisms
    from pages.kit.defaults import first_studies

    mechanisms()
    if weights_available():
        from pages.kit.compute import run

        for study in first_studies():
            run(study)
    gc.collect()
    gc.freeze()
