"""The one warning category of the package, and how a command keeps what it says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class ConvergenceWarning(UserWarning):
    """A result did not meet its convergence check; the message has the number found and the threshold.

    Example:
        Five draws of a chain are too few to trust; where that must not go unnoticed, make an error of it.

        >>> import warnings
        >>> import bayesreg as br
        >>> model = br.LinearRegression(br.GaussianPrior(0.5), noise_scale=0.7)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", br.ConvergenceWarning)
        ...     br.sample(model, br.load_diabetes().standardized(), method="pyro-nuts", draws=5, tune=5, chains=1)
        Traceback (most recent call last):
            ...
        bayesreg.warnings.ConvergenceWarning: ...
    """


@contextmanager
def convergence_warnings() -> Iterator[list[str]]:
    """Keep what convergence checks warn of in a block from being shown.

    Yields:
        A list that has the messages once the block has ended.
    """
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield found
    found += [str(warning.message) for warning in caught if issubclass(warning.category, ConvergenceWarning)]
