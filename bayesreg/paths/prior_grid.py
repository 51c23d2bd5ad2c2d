"""One data set under priors that differ in their scale alone: models and posteriors from one decomposition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from bayesreg.evidence import EvidenceSpectrum
from bayesreg.model import LinearRegression
from bayesreg.multipliers import in_range
from bayesreg.priors import GaussianPrior, LaplacePrior
from bayesreg.propriety import require_proper
from bayesreg.target import Target

if TYPE_CHECKING:
    from bayesreg.moments import Moments
    from bayesreg.scales import Scale

PRIORS = {"l2": GaussianPrior, "l1": LaplacePrior}


class PriorGrid:
    """The posteriors of a linear regression on a grid of scales of a prior centred at zero.

    A scale relative to a noise scale that is known is a number like any other, tau s: the models have that one. Where
    the noise is learned, their prior is relative to it.

    Args:
        kind: ``"l2"``, a Gaussian prior, or ``"l1"``, a Laplace prior.
        prior_scales: The scales ``(k,)``, positive.
        noise_scale: A number or a distribution, as for `bayesreg.LinearRegression`.
        intercept: Likewise.
        moments: The data.
        device: Where the posteriors live.
        relative_to_noise: Whether the scales multiply the noise scale.

    Attributes:
        given_scales: The scales as given.
        prior_scales: The scales of the models: tau s where they multiply a noise scale s that is known.
        relative_to_noise: Whether the models' prior is relative to the noise: only where it is learned.
        moments: Centred, or about the origin without an intercept.
        device: As given.
        spectrum: Their decomposition at a scale of 1.

    Raises:
        TypeError: An argument of the model is of the wrong type.
        ValueError: It is out of range, or the posteriors are improper.
    """

    def __init__(
        self,
        kind: str,
        prior_scales: np.ndarray,
        noise_scale: Scale,
        intercept: bool,
        moments: Moments,
        device: torch.device | str = "cpu",
        relative_to_noise: bool = False,
    ):
        self._prior, self._noise_scale, self._intercept = PRIORS[kind], noise_scale, intercept
        self.given_scales = self.prior_scales = prior_scales
        self.device, self.relative_to_noise = device, relative_to_noise
        reference = self.model(1.0)
        self.noise_is_learned = reference.noise_is_learned
        if relative_to_noise and not self.noise_is_learned:
            self.relative_to_noise = False
            self.prior_scales = in_range(
                "prior_scales times the noise scale", prior_scales * float(reference.noise_scale)
            )
        self.moments = moments if reference.intercept else moments.about_origin()
        width = moments.num_features
        self.spectrum = EvidenceSpectrum.of(self.moments, np.ones(width), np.zeros(width), device)
        # Whether a posterior is proper does not depend on a known scale.
        require_proper(self.target(float(self.prior_scales[0])))

    def __len__(self) -> int:
        return len(self.prior_scales)

    def model(self, prior_scale: float) -> LinearRegression:
        """Return the model at a prior scale."""
        prior = self._prior(float(prior_scale), relative_to_noise=self.relative_to_noise)
        return LinearRegression(prior, self._noise_scale, self._intercept)

    def target(self, prior_scale: float) -> Target:
        """Return the posterior at a prior scale."""
        return Target(self.model(prior_scale), self.moments, self.device, self.spectrum.at_scale(float(prior_scale)))
