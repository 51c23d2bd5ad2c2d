"""What a package must leave as it found it: a picture of the process's global state, and what differs between two."""

import logging
import os
import pickle
import random
import signal
import sys
import warnings


def snapshot():
    """The global state, by name, of the libraries that are loaded already."""
    state = {
        "python random": random.getstate(),
        "warnings filters": list(warnings.filters),
        "logging": _logging_levels(),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "hooks": (sys.excepthook, sys.displayhook, sys.stdout, sys.stderr),
        "interrupt": signal.getsignal(signal.SIGINT),
        "search path": list(sys.path),
        "recursion limit": sys.getrecursionlimit(),
    }
    if numpy := sys.modules.get("numpy"):
        state["numpy random"] = pickle.dumps(numpy.random.get_state(legacy=False))
        state["numpy errors"] = numpy.geterr()
        state["numpy printing"] = numpy.get_printoptions()
    if torch := sys.modules.get("torch"):
        state["torch random"] = torch.get_rng_state().numpy().tobytes()
        state["default dtype"] = torch.get_default_dtype()
        state["default device"] = torch.get_default_device()
        state["torch threads"] = torch.get_num_threads()
        state["gradients"] = torch.is_grad_enabled()
        state["determinism"] = torch.are_deterministic_algorithms_enabled()
        state["matmul precision"] = torch.get_float32_matmul_precision()
        state["torch printing"] = vars(torch._tensor_str.PRINT_OPTS).copy()
        if torch.cuda.is_initialized():
            state["cuda random"] = [numbers.cpu().numpy().tobytes() for numbers in torch.cuda.get_rng_state_all()]
    if threadpoolctl := sys.modules.get("threadpoolctl"):
        state["BLAS threads"] = [
            lib["num_threads"] for lib in threadpoolctl.threadpool_info() if "blas" in lib.values()
        ]
    if pyro := sys.modules.get("pyro"):
        store = pyro.get_param_store()
        state["pyro parameters"] = {name: (id(value), value.tolist()) for name, value in store.named_parameters()}
        state["pyro settings"] = pyro.settings.get()
        state["pyro handlers"] = len(pyro.poutine.runtime._PYRO_STACK)
    if matplotlib := sys.modules.get("matplotlib"):
        # The keys only: reading the backend's value would choose one.
        state["matplotlib"] = {key: matplotlib.rcParams._get(key) for key in matplotlib.rcParams}
    if pandas := sys.modules.get("pandas"):
        state["pandas"] = pandas.get_option("display.max_rows"), pandas.get_option("display.precision")
    return state


def differences(before, after):
    """Names whose state changed, with both states; those of libraries loaded in between are left out."""
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def _logging_levels():
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        name: (logger.level, logger.disabled, logger.propagate, len(logger.handlers))
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger) and (name == "" or logger.level or logger.handlers)
    }
