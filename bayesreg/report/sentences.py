"""Plain sentences made from numbers: what is shown, what is wrong where something is, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bayesreg.engines import ENGINES
from bayesreg.sampling import LARGEST_R_HAT, SMALLEST_ESS

# Predictive intervals should hold as many rows as they say, as far as chance goes: so many standard deviations of a
# binomial number. Fitted to the rows that they are held against, they may hold a few more.
_CHANCE = 3.0
# What a replicated statistic may be beyond: one in a hundred, on either side.
_EXTREME = 0.005


@dataclass(frozen=True)
class Finding:
    """A sentence or two, and whether what they say is as it should be.

    Attributes:
        passed: Whether it is; None where there is nothing to judge.
        text: The sentences.
    """

    passed: bool | None
    text: str


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as a sentence has it; a dash for none."""
    if value is None or value != value:
        return "–"
    text = f"{value:.{digits}g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def tiny(value: float | None) -> str:
    """Return a gap or a residual with one digit; below 1e-15 it is rounding, and the number says nothing."""
    return "below 1e-15" if value is not None and 0.0 <= value < 1e-15 else number(value, 1)


def prior_words(prior: Mapping[str, Any]) -> str:
    """Return what a prior is, from its words in JSON."""
    kind = prior["kind"]
    if kind == "flat":
        return "a flat prior"
    names = {"gaussian": "a Gaussian prior", "laplace": "a Laplace prior", "elasticnet": "an elastic net's prior"}
    if kind == "elasticnet":
        scales = (
            f"of scales {_scale(prior['gaussian_scale'])} (Gaussian) and {_scale(prior['laplace_scale'])} (Laplace)"
        )
    else:
        scales = "of a learned scale" if isinstance(prior["scale"], Mapping) else f"of scale {_scale(prior['scale'])}"
    relative = " times the noise scale" if prior.get("relative_to_noise") else ""
    location = prior.get("loc", 0.0)
    if location:
        relative += f" around {'one location a feature' if isinstance(location, list) else number(location)}"
    return f"{names[kind]} {scales}{relative}"


def _scale(value: Any) -> str:
    if isinstance(value, Mapping):
        return "learned"
    return "one a feature" if isinstance(value, list) else number(value)


def lambda_words(strengths: Mapping[str, Any], convention: str, convention_of: Mapping[str, Any]) -> str:
    """Return lambda, in the convention that the page speaks.

    Args:
        strengths: Canonical strengths by ``"l2"`` and ``"l1"``: numbers, or lists of one a feature.
        convention: The convention's name.
        convention_of: Its factors from canonical strengths, by ``"l2"`` and ``"l1"``.

    Returns:
        Such as ``lambda = 0.00251 (mean-half-squared)``.
    """
    known = {kind: value for kind, value in strengths.items() if isinstance(value, list) or value}
    if not known:
        return "lambda = 0"
    if any(isinstance(value, list) for value in known.values()):
        return "one lambda a feature"
    if all(kind in convention_of for kind in known):
        values = {kind: value * convention_of[kind] for kind, value in known.items()}
        name = convention
    else:
        values, name = known, "mean-half-squared"
    words = " and ".join(f"{number(value)}{f' ({kind.upper()})' * (len(values) > 1)}" for kind, value in values.items())
    return f"lambda = {words} in {name}"


def certified(passed: bool, gap: float | None, allowed: float, kkt: float) -> Finding:
    """Return whether the MAP is certified, and by what.

    Args:
        passed: The verdict.
        gap: The relative duality gap; None without a penalty.
        allowed: What it, or the KKT residual, is held to.
        kkt: The KKT residual.

    Returns:
        The finding.
    """
    what, value = ("relative duality gap", gap) if gap is not None else ("KKT residual", kkt)
    found = f"{what} {tiny(value)}, allowed {number(allowed, 1)}"
    if passed:
        return Finding(True, f"The MAP is certified: {found}. No weights give a noticeably lower objective.")
    return Finding(
        False,
        f"The MAP is not certified: {found}. The optimiser stopped short, or the columns are too nearly dependent for "
        "float64: standardize them, or drop one of each pair that says the same.",
    )


def routes(comparison: Mapping[str, Any]) -> Finding:
    """Return what a comparison of routes to the MAP found, from its words in JSON."""
    missed = [route["name"] for route in comparison["routes"] if not route["passed"]]
    caught = [route for route in comparison["wrong_lambda"] if not route["same_point"]]
    slipped = [route["name"] for route in caught if route["passed"]]
    number_of = len(comparison["routes"])
    if missed:
        return Finding(
            False,
            f"{len(missed)} of {number_of} routes did not reach the MAP within their tolerance: {', '.join(missed)}. "
            "The other routes are the MAP; what these found is not. Standardize the data, or train for longer.",
        )
    if slipped:
        return Finding(
            False,
            f"All {number_of} routes are within tolerance, but so is the fit at a wrong lambda ({', '.join(slipped)}): "
            "the test cannot tell lambdas apart on these data, and proves nothing.",
        )
    wrong = " The same test catches half and twice the lambda." if caught else ""
    return Finding(
        True, f"All {number_of} routes, which share no code, end at the same point within their tolerances.{wrong}"
    )


def chains(
    method: str,
    draws: int,
    worst_r_hat: float,
    least_ess: float,
    divergent: int,
    warnings: Sequence[str],
    many: bool = False,
) -> Finding:
    """Return whether the draws can be trusted.

    Args:
        method: The engine.
        draws: How many there are over all chains.
        worst_r_hat: The largest R-hat.
        least_ess: The smallest effective sample size, of bulk and tails.
        divergent: Number of divergent transitions.
        warnings: What the run's own checks warned of.
        many: Whether the chains are so many that their R-hat leaves out the noise of each.

    Returns:
        The finding.
    """
    said = "; ".join(warnings)
    if method == "svi":
        shows = f"{draws:,} draws from a Gaussian fitted to the posterior: an approximation, whatever their number."
        return Finding(not warnings, shows + (f" The run warned: {said}." if warnings else ""))
    if ENGINES[method].independent:
        shows = f"{draws:,} independent draws by {method}: there is no chain to converge."
        return Finding(not warnings, shows + (f" The run warned: {said}." if warnings else ""))
    known = worst_r_hat == worst_r_hat  # one chain, or very few draws, have none
    said_of_r_hat = f"at most {worst_r_hat:.4f}" if known else "unknown"
    found = f"R-hat{', the noise of short chains left out,' if many else ''} is {said_of_r_hat} (allowed "
    found += f"{LARGEST_R_HAT}), the effective sample size at least {least_ess:,.0f} (needed {SMALLEST_ESS})"
    if not warnings:
        return Finding(True, f"The chains agree: {found}. Means and intervals can be read.")
    if all(warning.startswith("sampling was interrupted") for warning in warnings):
        return Finding(True, f"The run was cut short ({said}), and what is kept agrees: {found}.")
    diverged = f", and {divergent:,} transitions diverged" if divergent else ""
    return Finding(
        False,
        f"The chains cannot be trusted yet: {found}{diverged}. The run warned: {said}. "
        "Run again with more draws (--draws) and warm-up (--tune) before reading means or intervals.",
    )


def coverage(covered: int, rows: int, interval: float) -> Finding:
    """Return whether predictive intervals hold as many of the observed targets as they should.

    Args:
        covered: How many they hold.
        rows: How many there are.
        interval: Their probability.

    Returns:
        The finding.
    """
    share, spread = covered / rows, (interval * (1.0 - interval) / rows) ** 0.5
    shows = f"The {interval:.0%} predictive intervals hold {share:.1%} of the {rows:,} observed targets"
    if share < interval - _CHANCE * spread:
        return Finding(
            False,
            f"{shows}, fewer than chance allows: the noise scale is too small, or the noise is not Gaussian. Learn the "
            "noise scale, and look for outliers.",
        )
    if share > interval + _CHANCE * spread:
        return Finding(
            False,
            f"{shows}, more than chance allows: the model expects more noise than there is beside the fit, or fits "
            "these very rows too closely. Learn the noise scale; judge by the held-out loss.",
        )
    return Finding(True, f"{shows}, as they should.")


def replicated(p_values: Mapping[str, float]) -> Finding:
    """Return which statistics of the target the model does not reproduce.

    Args:
        p_values: P(replicated <= observed), by the statistic's name.

    Returns:
        The finding.
    """
    bad = [name for name, p in p_values.items() if not _EXTREME <= p <= 1.0 - _EXTREME]
    if not bad:
        return Finding(True, f"Data drawn from the model resemble the observed ones in {', '.join(p_values)}.")
    return Finding(
        False,
        f"Data drawn from the model differ from the observed ones in {', '.join(bad)}: a normal target of constant "
        "spread does not describe these rows there. Look at the residuals; the logarithm of a positive target may do.",
    )


def gaps(largest: float, allowed: float, fits: int) -> Finding:
    """Return whether every fit of a path is certified."""
    if largest <= allowed:
        return Finding(True, f"Each of the {fits} fits is certified: largest relative duality gap {tiny(largest)}.")
    return Finding(
        False,
        f"Not every fit is certified: the largest relative duality gap is {number(largest, 1)}, allowed "
        f"{number(allowed, 1)}. Standardize the columns, or leave out the smallest lambdas.",
    )
