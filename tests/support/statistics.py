"""Means held against a law: within four standard errors, so that a fixed seed passes and a wrong law does not."""

import math

import torch

from longattn_core.numerics.draws import generator

STANDARD_ERRORS = 4.0


def assert_mean(sample, expected, *, slack=0.0):
    """The mean of independent draws lies within four standard errors (and a stated slack of the law) of its expectation."""
    sample = torch.as_tensor(sample, dtype=torch.float64).flatten()
    mean, error = float(sample.mean()), float(sample.std()) / math.sqrt(len(sample))
    allowed = STANDARD_ERRORS * error + slack
    assert abs(mean - expected) <= allowed, f"mean {mean:.6g}, expected {expected:.6g} ± {allowed:.2g}"


def assert_variance(sample, expected):
    """The variance of independent draws around 0 lies within four standard errors of its expectation."""
    assert_mean(torch.as_tensor(sample, dtype=torch.float64) ** 2, expected)


def generator_numbers(name, *shape, seed=7):
    """N(0, 1) numbers as a numpy array, the same for the same name."""
    return torch.randn(*shape, generator=generator(seed, name), dtype=torch.float64).numpy()
