"""How large the tensors are that a piece of code makes, and how many numbers it makes in all."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Sizes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            # A view that repeats or slices another tensor holds nothing of its own.
            if hasattr(leaf, "untyped_storage"):
                self.largest = max(self.largest, leaf.untyped_storage().nbytes() // max(1, leaf.element_size()))
        return out


def largest_tensor(run):
    """The number of elements of the largest tensor that `run()` makes."""
    with _Sizes() as sizes:
        run()
    return sizes.largest


class _Work(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            # A sparse tensor's numbers are counted where its values are made; its own count is that of the whole matrix.
            made = (leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided)
            self.made += sum(leaf.numel() for leaf in made)
        return out


def numbers_made(run):
    """How many numbers `run()` writes in all, whatever becomes of them."""
    with _Work() as work:
        run()
    return work.made
