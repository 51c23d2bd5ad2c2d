"""Two blocks of a Gibbs sampler for a prior with a kink, the learned scales collapsed, all chains in one batch.

The coordinates. z = (w - m) / D = t x, with D the prior's own scales and t the common factor of the effective ones: t =
1 (scale known), beta (learned), and either times the noise s (relative to the noise). The Laplace prior is a mixture,

    x_j | v_j ~ Normal(0, v_j),      v_j ~ Exponential of mean 2,

and with the intercept integrated out the data enter through r = rank(Xc) pairs: G = S V' (r, d) and c, with Xc D = U S
V' and c = U'(yc - Xc m), and through the squared length e outside of the span, on nu degrees of freedom
(`bayesreg.evidence`). So c | x ~ Normal(t G x, s^2 I).

Block 1, (s, t) and x given v. With x integrated out, rho = s/t and K = G diag(v) G',

    log p(y | s, t, v) = constant - (nu - r) log s - e/(2s^2) - r log t - log det(M)/2 - c'M^-1 c/(2t^2),
    M = rho^2 I + K.

One Cholesky factor gives it at all s and t of one ratio. The scales that are learned move on a random lattice
(`bayesreg.inference.lattice`) under their priors; their density is never approximated. Its steps are (a, b) in

    log rho -> log rho + a,      log t -> log t + b - k a,

so that with k = 0 the step a moves s alone, with k = 1 t alone, and b moves both at one ratio. Where both are learned,
k is learned too, in the warm-up, as what makes a and b uncorrelated: one scale may be known far better than the other.
Then x, by a draw from its prior and a correction with the factor that is there,

    x = u + diag(v) G' M^-1 (c/t - G u - rho Normal(0, I)),      u ~ Normal(0, diag(v)).

Block 2, t and v given w and s. A learned prior scale moves once more, now with v integrated out and the weights held,

    log p(t | w) = -d log t - |z|_1/t + log prior,

which is quick where the first block is slow and the other way round; then v_j | x_j, a reciprocal inverse Gaussian.

An elastic net, exp(-a_j |x_j| - q_j x_j^2 / 2) but for a constant (`bayesreg.prior_shapes`), is the Laplace of a_j x_j
times a Gaussian: x_j | u_j ~ Normal(0, v_j) with v_j = u_j / (a_j^2 + q_j u_j), and u_j | x_j is the variance above at
a_j x_j. The density of u then is another one, but its own factor of the joint density, so block 1 is as it was.

Sources: Park and Casella, The Bayesian Lasso, JASA 103 (2008); the noise collapsed: Rajaratnam, Sparks, Khare and
Zhang, Uncertainty quantification for modern high-dimensional regression via scalable Bayesian methods, JCGS 28 (2019);
x in O(r^2 d): Bhattacharya, Chakraborty and Mallick, Fast sampling with Gaussian scale mixture priors in
high-dimensional regression, Biometrika 103 (2016); the elastic net as a mixture: Li and Lin, The Bayesian elastic net,
Bayesian Analysis 5 (2010); a scale moved with the weights and with the standardised weights
held in turn: Yu and Meng, To center or not to center, JCGS 20 (2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bayesreg.inference.inverse_gaussian import mixing_variances
from bayesreg.inference.lattice import RandomLattice, choose
from bayesreg.inference.normals import standard_normals
from bayesreg.prior_shapes import PriorShape
from bayesreg.scales import LearnedScale

# Up to so many numbers, the products of each pair of rows of G are kept: K then takes a third of the time.
_OUTER_NUMBERS = 2**19
# Of what the regression that gives k has seen, this much is kept at each scan of the warm-up.
_FORGETTING = 0.9


@dataclass(frozen=True, eq=False)
class SpannedData:
    """What the likelihood sees of the data, in the coordinates x.

    Attributes:
        design: G ``(r, d)``.
        projections: c ``(r,)``, or ``(chains, r)``: a data set of its own for each chain.
        residual: e ``()``, or ``(chains,)``.
        degrees_of_freedom: nu.
    """

    design: torch.Tensor
    projections: torch.Tensor
    residual: torch.Tensor
    degrees_of_freedom: int


class Kink:
    """What block 2 knows of the prior: the variances of x for given values of it.

    Args:
        shape: The prior's density in units of its scale; None: a Laplace prior.
        like: A tensor of the dtype and on the device wanted.
    """

    def __init__(self, shape: PriorShape | None, like: torch.Tensor):
        # A Laplace prior, a = 1 and q = 0, is spared the operations.
        self._is_laplace = shape is None or not shape.square.any()
        if not self._is_laplace:
            self._absolute, self._square = (like.new_tensor(part) for part in (shape.absolute, shape.square))

    def scaled(self, absolute: torch.Tensor) -> torch.Tensor:
        """Return a |x|."""
        return absolute if self._is_laplace else self._absolute * absolute

    def variances(self, mixing: torch.Tensor) -> torch.Tensor:
        """Return the variance v of x given u, of the same shape."""
        return mixing if self._is_laplace else mixing / (self._absolute.square() + self._square * mixing)


@dataclass
class MixtureState:
    """Where the chains are.

    Attributes:
        variances: v ``(chains, d)``.
        log_noise: log s ``(chains,)``.
        log_factor: log t ``(chains,)``.
        standardised: x ``(chains, d)``, once block 1 has run.
        moved: The probability ``(chains,)`` with which block 1 would have moved the scales.
    """

    variances: torch.Tensor
    log_noise: torch.Tensor
    log_factor: torch.Tensor
    standardised: torch.Tensor | None = None
    moved: torch.Tensor | None = None


class ScaleMixture:
    """The two blocks, and the lattices that their scales move on.

    Args:
        data: The data.
        noise: The prior of s; None: known, at what the state says.
        prior_scale: The prior of beta; None: known.
        relative_to_noise: Whether t = beta s, and not beta.
        num_chains: Number of chains.
        shape: The prior's density in units of its scale; None: a Laplace prior. Only that of a Laplace prior may have a
            scale to learn.
    """

    def __init__(
        self,
        data: SpannedData,
        noise: LearnedScale | None,
        prior_scale: LearnedScale | None,
        relative_to_noise: bool,
        num_chains: int,
        shape: PriorShape | None = None,
    ):
        self._kink = Kink(shape, data.design)
        self._data, self._noise, self._prior_scale, self._relative = data, noise, prior_scale, relative_to_noise
        self._transposed = data.design.mT.contiguous()
        self._outer = _outer_products(data.design)
        self._places = torch.arange(num_chains, dtype=torch.int64, device=data.design.device)
        self._still = torch.zeros((num_chains, 1), dtype=data.design.dtype, device=data.design.device)
        rank, num_features = data.design.shape
        # What products and a factorisation can lose of a diagonal entry: raised by that, the factor always exists.
        self._raised = 1.0 + 4 * (rank + num_features) * torch.finfo(data.design.dtype).eps

        def lattice(moves: bool, width: float) -> RandomLattice | None:
            return RandomLattice(num_chains, data.projections.ndim == 1, data.design, width) if moves else None

        # Widths where the data say all: log s of nu - r residuals, both at one ratio of nu, and log t of d
        # weights. The lattices start from these and learn the rest.
        noise_width = 0.0 if noise is None else 1.0 / math.sqrt(2 * max(1, data.degrees_of_freedom - rank))
        prior_width = 0.0 if prior_scale is None else 1.0 / math.sqrt(num_features)
        both_width = 1.0 / math.sqrt(2 * max(1, data.degrees_of_freedom))

        noise_alone = noise is not None and not relative_to_noise
        self._ratio = lattice(noise_alone or prior_scale is not None, math.hypot(noise_width, prior_width))
        self._factor = lattice(noise is not None and (relative_to_noise or prior_scale is not None), both_width)
        self._held_weights = lattice(prior_scale is not None, prior_width)
        # k, for each chain: 1 where the noise is known and 0 where the prior scale is.
        squares = noise_width**2 + prior_width**2
        self._shear = torch.full_like(self._still, prior_width**2 / squares if squares > 0 else 0.0)
        self._learns_shear = noise is not None and prior_scale is not None
        self._products = torch.zeros((2, *self._still.shape), dtype=self._still.dtype, device=self._still.device)

    def draw_weights(self, state: MixtureState, generator: torch.Generator, learn: bool) -> None:
        """Block 1: draw the learned scales with the weights integrated out, then the weights.

        Args:
            state: Where the chains are; what is drawn is put there.
            generator: The source of randomness.
            learn: Whether the lattices may learn, as in a warm-up.
        """
        data, num_features = self._data, self._data.design.shape[1]
        ratio_steps, ratio_place = self._lay(self._ratio, generator)
        factor_steps, factor_place = self._lay(self._factor, generator)
        log_ratios = (state.log_noise - state.log_factor).unsqueeze(-1) + ratio_steps
        factors = self.factorise(state.variances, log_ratios)
        sheared_steps = factor_steps.unsqueeze(1) - (self._shear * ratio_steps).unsqueeze(2)
        log_factors = state.log_factor[:, None, None] + sheared_steps
        log_noises = log_ratios.unsqueeze(-1) + log_factors

        log_density = torch.zeros_like(log_noises)
        if self._ratio is not None or self._factor is not None:  # else there is one point, whatever its density
            log_density = self.log_evidence(factors, log_noises, log_factors)
            if self._noise is not None:
                log_density = log_density + _log_density(self._noise, log_noises)
            log_density = log_density + self._log_prior_scale(log_factors, log_noises)
        shape = log_density.shape
        place, probabilities = choose(log_density.flatten(1), generator)
        stayed = probabilities.gather(1, (ratio_place * shape[2] + factor_place).unsqueeze(-1)).squeeze(-1)
        if learn:
            self._learn(ratio_steps, factor_steps, sheared_steps, probabilities.unflatten(1, shape[1:]))

        row, column = place // shape[2], place % shape[2]
        state.moved = 1.0 - stayed
        if self._noise is not None:
            state.log_noise = log_noises[self._places, row, column]
        state.log_factor = log_factors[self._places, row, column]
        ratio = log_ratios[self._places, row].exp().unsqueeze(-1)

        like = {"generator": generator, "dtype": ratio.dtype, "device": ratio.device}
        chains = len(self._places)
        unseen = state.variances.sqrt() * standard_normals((chains, num_features), **like)
        noise = ratio * standard_normals((chains, data.design.shape[0]), **like)
        observed = data.projections / state.log_factor.exp().unsqueeze(-1)
        missing = observed - unseen @ self._transposed - noise
        solution = torch.cholesky_solve(missing.unsqueeze(-1), factors[self._places, row]).squeeze(-1)
        state.standardised = unseen + state.variances * (solution @ data.design)

    def draw_variances(self, state: MixtureState, generator: torch.Generator, learn: bool) -> None:
        """Block 2: draw a learned prior scale given the weights, then the variances of the mixture.

        Args:
            state: Where the chains are; what is drawn is put there.
            generator: The source of randomness.
            learn: Whether the lattice may learn, as in a warm-up.
        """
        absolute = state.standardised.abs()
        if self._held_weights is not None:
            steps, _ = self._held_weights.lay(generator)
            log_factors = state.log_factor.unsqueeze(-1) + steps
            # |z|_1 / t at the lattice's t, from the sum at the old one.
            log_density = -absolute.shape[1] * log_factors - absolute.sum(-1, keepdim=True) * (-steps).exp()
            log_density = log_density + self._log_prior_scale(log_factors, state.log_noise.unsqueeze(-1))
            place, probabilities = choose(log_density, generator)
            if learn:
                self._held_weights.learn(steps, probabilities)
            state.log_factor = log_factors[self._places, place]
            absolute = absolute * (-steps[self._places, place]).exp().unsqueeze(-1)
        state.variances = self._kink.variances(mixing_variances(self._kink.scaled(absolute), generator))

    def _lay(self, lattice: RandomLattice | None, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return (self._still, torch.zeros_like(self._places)) if lattice is None else lattice.lay(generator)

    def _learn(
        self,
        ratio_steps: torch.Tensor,
        factor_steps: torch.Tensor,
        sheared_steps: torch.Tensor,
        probabilities: torch.Tensor,
    ) -> None:
        """Learn the spacings, and k by the regression of the steps of log t on those of log rho."""
        if self._ratio is not None:
            self._ratio.learn(ratio_steps, probabilities.sum(2))
        if self._factor is not None:
            self._factor.learn(factor_steps, probabilities.sum(1))
        if self._learns_shear:
            mean_steps = (probabilities * sheared_steps).sum(2)
            products = torch.stack([ratio_steps * mean_steps, ratio_steps.square() * probabilities.sum(2)]).sum(
                -1, True
            )
            if self._ratio.pooled:
                products = products.mean(1, keepdim=True).expand_as(self._products)
            self._products = _FORGETTING * self._products + products
            across, along = self._products
            self._shear = torch.where(along > 0, -across / along, self._shear).clamp(0.0, 1.0)

    def factorise(self, variances: torch.Tensor, log_ratios: torch.Tensor) -> torch.Tensor:
        """Return the Cholesky factors of M = rho^2 I + K.

        Args:
            variances: v ``(chains, d)``.
            log_ratios: log rho ``(chains, ratios)``.

        Returns:
            Lower triangles ``(chains, ratios, r, r)``.
        """
        if self._outer is None:
            kernel = (self._data.design * variances.unsqueeze(1)) @ self._transposed
        else:
            kernel = (variances @ self._outer).unflatten(1, 2 * self._data.design.shape[:1])
        diagonal = kernel.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
        matrices = kernel.unsqueeze(1).repeat(1, log_ratios.shape[1], 1, 1)
        matrices.diagonal(dim1=-2, dim2=-1).copy_(self._raised * diagonal + (2.0 * log_ratios).exp().unsqueeze(-1))
        return torch.linalg.cholesky_ex(matrices).L

    def log_evidence(self, factors: torch.Tensor, log_noises: torch.Tensor, log_factors: torch.Tensor) -> torch.Tensor:
        """Return log p(y | s, t, v) but for a constant.

        Args:
            factors: Of the ratios, from `factorise`.
            log_noises: log s ``(chains, ratios, m)``, or what broadcasts to that.
            log_factors: log t, the same; log s - log t is the ratio's.

        Returns:
            ``(chains, ratios, m)``.
        """
        data, rank = self._data, self._data.design.shape[0]
        projections = data.projections[..., None, :, None].expand(*factors.shape[:2], rank, 1)
        squares = torch.linalg.solve_triangular(factors, projections, upper=False).square().sum((-2, -1))
        half_volume = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        outside = 0.5 * data.residual[..., None, None] * (-2.0 * log_noises).exp()
        inside = 0.5 * squares.unsqueeze(-1) * (-2.0 * log_factors).exp()
        powers = (data.degrees_of_freedom - rank) * log_noises + rank * log_factors
        return -powers - outside - half_volume.unsqueeze(-1) - inside

    def _log_prior_scale(self, log_factors: torch.Tensor, log_noises: torch.Tensor) -> torch.Tensor | float:
        """Return the log prior density of log beta, where it is learned."""
        if self._prior_scale is None:
            return 0.0
        return _log_density(self._prior_scale, log_factors - log_noises if self._relative else log_factors)


def _outer_products(design: torch.Tensor) -> torch.Tensor | None:
    """Return (d, r^2) with which K is one matrix product for all chains, where it fits in a cache."""
    rank, num_features = design.shape
    if rank * rank * num_features > _OUTER_NUMBERS:
        return None
    columns = design.mT
    return (columns.unsqueeze(2) * columns.unsqueeze(1)).flatten(1)


def _log_density(learned: LearnedScale, log_scale: torch.Tensor) -> torch.Tensor:
    """Return the log prior density of the logarithm of a scale, minus infinity outside the support."""
    if learned.is_logarithm:
        return learned.log_density(log_scale)
    return learned.log_prior(log_scale.exp()) + log_scale
