"""What a server does before its first visitor: heavy imports in a safe order, the model, the default page's studies."""

from __future__ import annotations

import gc
import sys
from threading import Thread

TURN = 0.001
"""Seconds after which a thread that computes in Python lets another one go on: a page need not wait long for a sweep."""


def warm_up() -> None:
    """Import what is heavy, then compute the default text's first pictures behind the server's back.

    The order of the imports matters: importing plotly before numpy from several sessions at once has failed, so no
    session begins before they are done. The studies need not be: a browser takes as long to load the app as they to
    run, and a page that asks for one of them waits for it.
    """
    sys.setswitchinterval(TURN)
    import numpy as np  # noqa: F401
    import torch

    torch.set_num_threads(1)
    import altair as alt  # noqa: F401

    from longattn_core.registry import mechanisms
    from pages.kit.defaults import first_studies  # noqa: F401

    mechanisms()
    Thread(target=_first_pictures, name="first pictures", daemon=True).start()


def _first_pictures() -> None:
    """The default page's studies; then freeze the collector: all that was imported goes out of its sight, which Streamlit
    calls after every run.

    Without the weights the synthetic sequences still work, so their absence is no error here.
    """
    from longattn_core.language_model.weights import weights_available
    from pages.kit.compute import run
    from pages.kit.defaults import first_studies

    if weights_available():
        for study in first_studies():
            run(study)
    gc.collect()
    gc.freeze()
