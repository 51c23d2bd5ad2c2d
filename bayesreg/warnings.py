"""The one warning category of the package."""


class ConvergenceWarning(UserWarning):
    """A result did not meet its convergence check; the message has the number found and the threshold."""
