"""Torch modes under which careless tensor code fails: factories without device and dtype, reads that stop a GPU."""

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

import bayesreg

PACKAGE = str(Path(bayesreg.__file__).resolve().parent)

_FACTORIES = {
    getattr(torch, name)
    for name in (
        "arange", "as_tensor", "asarray", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint",
        "randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
    )
}  # fmt: skip
# Each waits for the device, then copies to the host.
_SYNCHRONISING = {
    getattr(torch.Tensor, name)
    for name in ("__bool__", "__float__", "__index__", "__int__", "cpu", "item", "nonzero", "numpy", "tolist")
}


class StrictFactories(TorchFunctionMode):
    """Fails where a file of the package makes a tensor without saying on which device and of which dtype."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        line = _package_line(sys._getframe(1))
        if line and func in _FACTORIES:
            missing = [name for name in ("device", "dtype") if kwargs.get(name) is None]
            converts = func in (torch.as_tensor, torch.asarray) and isinstance(args[0], torch.Tensor)
            assert not missing or converts, f"{line}: torch.{func.__name__} without {' and '.join(missing)}"
        return func(*args, **kwargs)


class CountSynchronisations(TorchFunctionMode):
    """Counts, by line of the package, the operations that read a tensor from the host."""

    def __init__(self):
        super().__init__()
        self.lines = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        line = _package_line(sys._getframe(1))
        if line and func in _SYNCHRONISING:
            self.lines[line] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def no_synchronisation_in_loops(at_most):
    """Fail if any one line of the package reads a tensor from the host more than `at_most` times."""
    with CountSynchronisations() as mode:
        yield
    loops = {line: times for line, times in mode.lines.items() if times > at_most}
    assert not loops, f"tensors are read from the host in a loop: {loops}"


def _package_line(frame):
    """Where the call is, if it stands in a file of the package itself and not in a library that the package calls."""
    path = frame.f_code.co_filename
    return f"{path[len(PACKAGE) + 1 :]}:{frame.f_lineno}" if path.startswith(PACKAGE) else None
