"""What the package's messages call a thing in Python, and what it is called on the command line."""

from __future__ import annotations

import re

# The flags of `bayesreg convert`, by what its errors and its needs call them.
FLAGS = {
    "num_rows": "--rows",
    "noise_scale": "--noise-scale",
    "target_scale": "--target-scale",
    "steps_per_epoch": "--steps-per-epoch",
    "prior_scale": "--prior-scale",
    "gaussian_scale": "--gaussian-scale",
    "laplace_scale": "--laplace-scale",
    "L2 strength": "--l2",
    "L1 strength": "--l1",
}
_CONVERT = {rf"\b{name}\b": flag for name, flag in FLAGS.items()}
_RUN = {
    r"\b\w+\((\w+)=\.\.\.\)": r"\1",
    r"\bprior_scale=": "--scale a number,",
    r"\bnoise_scale=": "--noise-scale",
    r"\bsample\(\)": "`bayesreg run`",
    r"\bdist\.LogNormal\b(?!\()": '--noise-scale "LogNormal(0, 1)"',
    r"\bdist\.InverseGamma\b(?!\()": '"InverseGamma(1, 1)"',
    r"\bdist\.(?=[A-Z])": "",
    r"\bmethod='([\w-]+)'": r"--method \1",
    r"\b(draws|chains|tune)=(?=\d)": r"--\1 ",
    r"\braise target_acceptance, or loosen or": "loosen or",  # a run has no such option
}
_PATH = _RUN | {
    r" \(threshold (\d+)\): raise draws": r" (threshold \1)",  # they have no such option
    r"\bkind='(\w+)'": r"--kind \1",
    r"\blambdas=\[([^]]*)\]": r"--lambdas \1",
    r"\bfor kind '(\w+)' and '(\w+)'": r"for --kind \1 and \2",
}
_OF_COMMANDS = {"convert": _CONVERT, "path": _PATH, "choose": _PATH}


def in_flags(message: object, command: str | None) -> str:
    """Return a message of the package in the words of the command line.

    Args:
        message: A text, an error or a warning.
        command: The subcommand that it is for.

    Returns:
        The text.

    Example:
        >>> in_flags("draws=5,000 do not fit; use method='auto'", "run")
        '--draws 5,000 do not fit; use --method auto'
    """
    text = str(message)
    for theirs, ours in _OF_COMMANDS.get(command, _RUN).items():
        text = re.sub(theirs, ours, text)
    return text
