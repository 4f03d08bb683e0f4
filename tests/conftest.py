"""Shapes are checked while the tests run; one thread a worker, so that workers do not fight over the cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import config, install_import_hook

import tests.support.shapes  # noqa: F401  (the hook finds the checker by this name)

install_import_hook("longattn_core", "tests.support.shapes.checked")

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("laboratory", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laboratory")


@pytest.fixture(autouse=True)
def _global_draws_stay_untouched():
    """No test and no code under test may draw from the global generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "something drew from torch's global generator"


@pytest.fixture
def _shapes_unchecked():
    """For tests that walk again and again where others check the shapes already: the checks take a third of their time."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def _components_sought_once():
    """Streamlit's AppTest reads every installed package's metadata for each page it opens: here once, as a server does."""
    from streamlit.components.v2 import manifest_scanner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield
