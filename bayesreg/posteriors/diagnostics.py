"""What Markov chains say of themselves: effective sample sizes, R-hat, Monte Carlo errors, of all scalars in one batch.

Draws are ``(chain, draw, ...)``. Each scalar gets a number, computed on the device of the draws, in blocks of scalars
whose memory is bounded. Definitions are those of Vehtari, Gelman, Simpson, Carpenter and Buerkner (Bayesian Analysis,
2021) and, number for number, of ArviZ. Chains are split into halves (the middle one of an odd number of draws left
out): m half-chains of n draws, S = m n. For a series x,

    W     = mean of the variances of the half-chains (divisor n - 1),
    V     = (n - 1)/n W + variance of their means (divisor m - 1),
    rho_t = 1 - (W - mean autocovariance at lag t (divisor n)) / V,    rho_0 = 1,    P_k = rho_2k + rho_2k+1,
    tau   = -1 + 2 sum_{k < K} min_{j <= k} P_j + max(rho_2K, 0),      K = the first k with P_k <= 0, at most (n - 3)/2,
    ESS   = S / max(tau, 1/log10 S),                                   R-hat = sqrt(V / W).

The sum is Geyer's initial monotone sequence (Statistical Science, 1992). The bulk is judged by the normal scores of the
draws, R-hat also by those of |x - median|, the tails by the indicators x <= quantile.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import scipy.special
import torch

from bayesreg.computing.threads import in_parallel
from bayesreg.posteriors.ranks import fold, normal_scores, quantile, sort

FEWEST_DRAWS = 4  # of one chain: below, neither half of it has a variance
TAILS = (0.05, 0.95)
# Numbers in a block. On a CPU, passes over more than a core's cache holds take twice as long; on a GPU launches cost.
_BLOCK = {"cpu": 2**18, "cuda": 2**24}
_LEAST_VARIANCE = 1e-30  # in units of the spread: ArviZ takes for constant what differs by less than 1e-15


def diagnose(draws: torch.Tensor, *measures: Callable[[Chains], torch.Tensor]) -> list[torch.Tensor]:
    """Compute numbers of each scalar.

    Args:
        draws: ``(chain, draw, ...)``, on any device.
        *measures: Methods of `Chains`, or functions of one, that give ``(k, ...)`` for k scalars.

    Returns:
        For each measure a tensor of the shape of one draw, followed by what the measure adds.

    Raises:
        ValueError: There is no draw, or no axis of chains and of draws.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> draws = torch.randn((4, 1000, 3), generator=generator, dtype=torch.float64)
        >>> r_hat, ess = diagnose(draws, Chains.r_hat, Chains.ess_bulk)
        >>> r_hat.max() < 1.01, ess.min() > 3000
        (tensor(True), tensor(True))
    """
    if draws.ndim < 2 or draws.numel() == 0:
        raise ValueError(f"draws must have shape (chain, draw, ...), got {tuple(draws.shape)}")
    columns = draws.detach().reshape(*draws.shape[:2], -1)
    size = max(1, _BLOCK.get(draws.device.type, _BLOCK["cuda"]) // (columns.shape[0] * columns.shape[1]))

    def measured(several: torch.Tensor, go_on: Callable[[], None]) -> list[list[torch.Tensor]]:
        found = []
        for block in several.permute(2, 0, 1).to(torch.float64).contiguous().split(size):
            go_on()
            chains = Chains(block)
            found.append([measure(chains) for measure in measures])
        return found

    # A cache line of a CPU holds 8 neighbours.
    found = [block for blocks in in_parallel(measured, columns.split(max(size, 8), -1)) for block in blocks]
    joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
    return [numbers.reshape(draws.shape[2:] + numbers.shape[1:]) for numbers in joined]


def minimum_ess(draws: torch.Tensor) -> torch.Tensor:
    """Return the smaller of the ESS of x and of (x - mean)^2: what an engine is judged by.

    The draws of NUTS are antithetic on targets that are close to Gaussian: their means are known better than from as
    many independent draws, their variances worse.

    Args:
        draws: ``(chain, draw, ...)``.

    Returns:
        A tensor of the shape of one draw.
    """
    return torch.minimum(*diagnose(draws, Chains.ess_mean, Chains.ess_square))


class Chains:
    """The chains of k scalars, in units of their own: the power of 2 next to their spread.

    So nothing is rounded, and no square over- or underflows. What does not move, or is not finite, or has fewer than 4
    draws a chain, has NaN for its diagnostics, and so have one chain's R-hats.

    Attributes:
        values: ``(k, chain, draw)``, in the units.
        moves: ``(k,)``: whether draws differ, and are finite.
        num_chains: Their number.
        num_draws: Of each.
    """

    def __init__(self, draws: torch.Tensor):
        """Take draws into units.

        Args:
            draws: ``(k, chain, draw)``, float64.
        """
        spread = draws.amax((1, 2)) - draws.amin((1, 2))
        self.moves = torch.isfinite(spread) & (spread > 0)
        self._exponents = torch.where(self.moves, torch.frexp(spread).exponent, 0)
        self.values = _times_power_of_2(draws, -self._exponents)
        self.num_chains, self.num_draws = draws.shape[1:]

    def in_given_units(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return ``(k, ...)`` numbers in the units in which the draws were given."""
        return _times_power_of_2(numbers, self._exponents)

    @functools.cached_property
    def ascending(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All draws of each scalar ``(k, chain * draw)`` in ascending order, and their places."""
        return sort(self.values.flatten(1))

    def mean(self) -> torch.Tensor:
        """Return the means."""
        return self.in_given_units(self._mean)

    def sd(self) -> torch.Tensor:
        """Return the standard deviations (divisor: number of draws - 1)."""
        total = self._squares.sum(-1).sum(-1)
        return self.in_given_units((total / (self.num_chains * self.num_draws - 1)).sqrt())

    def ess_bulk(self) -> torch.Tensor:
        """Return the ESS of the normal scores."""
        return self._judge(lambda: _ess(self._scores))

    def ess_tail(self) -> torch.Tensor:
        """Return the smaller ESS of the 5 % and the 95 % quantile."""
        return torch.minimum(*(self.ess_quantile(probability) for probability in TAILS))

    def ess_quantile(self, probability: float) -> torch.Tensor:
        """Return the ESS of the indicator of being at or below a quantile."""
        bound = quantile(self.ascending[0], probability)[:, None, None]
        return self._judge(lambda: _ess((self._halves <= bound).to(torch.float64)))

    def ess_mean(self) -> torch.Tensor:
        """Return the ESS of the draws as they are."""
        return self._judge(lambda: _ess(self._halves))

    def ess_square(self) -> torch.Tensor:
        """Return the ESS of the squared deviations from the mean, that of the standard deviation."""
        return self._judge(lambda: _ess(self._split(self._squares)))

    def mcse_mean(self) -> torch.Tensor:
        """Return the Monte Carlo standard error of the mean, sd / sqrt(ESS)."""
        return self.sd() / self.ess_mean().sqrt()

    def mcse_sd(self) -> torch.Tensor:
        """Return that of the standard deviation, by the ESS of the squares and the delta method for the root."""
        variance = self._squares.mean(-1).mean(-1)
        of_squares = self._squares.square().mean(-1).mean(-1) - variance.square()
        return self.in_given_units((of_squares / self.ess_square() / variance).sqrt() / 2.0)

    def mcse_quantile(self, probability: float, independent: bool = False) -> torch.Tensor:
        """Return that of a quantile: half the distance between the draws that bracket it with the odds of one sigma.

        Where E p of E independent draws lie below a number, the probability to lie below it is Beta(E p + 1,
        E (1 - p) + 1): its quantiles at Phi(-1) and Phi(1), as places among the draws, are the bracket.

        Args:
            probability: That of the quantile.
            independent: Whether E is the number of draws; else it is the ESS of the quantile.

        Returns:
            ``(k,)``.
        """
        ordered = self.ascending[0]
        number = ordered.shape[-1]
        ess = torch.full_like(self._mean, number) if independent else self.ess_quantile(probability)
        known = self.moves & ~ess.isnan()
        shape = torch.where(known, ess, 1.0).cpu()
        one_sigma = torch.special.ndtr(torch.tensor([-1.0, 1.0], dtype=torch.float64, device="cpu"))
        parts = [(shape * share + 1.0).numpy()[:, None] for share in (probability, 1.0 - probability)]
        shares = torch.from_numpy(scipy.special.betaincinv(*parts, one_sigma.numpy())).to(ordered.device)
        below = (shares[:, :1] * number - 1.0).floor().clamp(min=0.0).to(torch.int64)
        above = (shares[:, 1:] * number - 1.0).ceil().clamp(max=number - 1.0).to(torch.int64)
        half = 0.5 * (ordered.gather(-1, above) - ordered.gather(-1, below)).squeeze(-1)
        return self.in_given_units(torch.where(known, half, math.nan))

    def r_hat(self) -> torch.Tensor:
        """Return the split R-hat of the normal scores, or of those of the distances to the median if it is larger."""
        return self._larger(_r_hat)

    def nested_r_hat(self, num_superchains: int) -> torch.Tensor:
        """Return the rank-normalised nested R-hat of superchains: groups of chains that started at one point.

        Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman, Bayesian Analysis 2024: sqrt(1 + B / W), B the
        variance of the superchains' means, W the mean over superchains of the variance of their chains' means plus
        the mean variance of these chains. With more chains in a superchain B forgets the noise of a short chain and
        keeps what is left of the start. Both halves of a chain belong to its superchain.

        Args:
            num_superchains: Of as many chains each: the first few chains are one, and so on.

        Returns:
            ``(k,)``.

        Raises:
            ValueError: Fewer than 2, or chains that cannot be shared out evenly.
        """
        if num_superchains < 2 or self.num_chains % num_superchains:
            raise ValueError(
                f"num_superchains must be at least 2 and divide the number of chains ({self.num_chains}), "
                f"got {num_superchains}"
            )
        return self._larger(lambda scores: _nested_r_hat(scores, num_superchains))

    def lasting_r_hat(self) -> torch.Tensor:
        """Return R-hat without the noise of short chains: what is to be below 1.01 where chains are many.

        Of chains in agreement, R-hat^2 - 1 is still about 1/(ESS of a half-chain), the noise of one mean: with an ESS
        of 25 R-hat is above 1.01, be there a thousand chains whose pooled mean is known to three digits. What has to be
        small is that part of the differences between chains which lasts, since no number of chains averages it out:
        modes between which none moves, the memory of the start, one chain that is stuck. Noise is new in each half of a
        chain, and what lasts is in both. So with (a_c, b_c) the means of the halves of chain c, the variance of means
        in R-hat is replaced by

            A = covariance over chains of a_c and b_c + (mean of a_c - mean of b_c)^2 / 4,      sqrt(1 + max(A, 0) / W),

        whose second term is a drift that all chains share. The noise of A is 1/(ESS of a half-chain) over the root of
        the number of chains: with 256 chains an ESS of 10 does, with 64 one of 20; with fewer than 16 it is no better
        than R-hat. Nested R-hat takes the noise out too, where superchains share their starts; where chains start
        apart, it has none: grouped at random, it averages away what lasts (0.999-autocorrelated chains of 100: R-hat
        7, in superchains of 16 1.03, this 7).

        Returns:
            ``(k,)``: the larger of that of the normal scores and of those of the distances to the median.
        """
        return self._larger(_lasting_r_hat)

    def _judge(self, compute: Callable[[], torch.Tensor], fewest_chains: int = 1) -> torch.Tensor:
        if self.num_draws < FEWEST_DRAWS or self.num_chains < fewest_chains:
            return torch.full_like(self._mean, math.nan)
        return torch.where(self.moves, compute(), math.nan)

    def _larger(self, compute: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return self._judge(lambda: torch.maximum(compute(self._scores), compute(self._folded_scores)), fewest_chains=2)

    @functools.cached_property
    def _mean(self) -> torch.Tensor:
        first = self.values[:, 0, 0]
        origin = torch.where(torch.isfinite(first), first, 0.0)  # keeps the digits beside an offset, and a constant
        return origin + (self.values - origin[:, None, None]).mean(-1).mean(-1)

    @functools.cached_property
    def _squares(self) -> torch.Tensor:
        return (self.values - self._mean[:, None, None]).square_()

    @functools.cached_property
    def _halves(self) -> torch.Tensor:
        return self._split(self.values)

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        half = self.num_draws // 2
        if self.num_draws % 2:
            values = torch.cat([values[..., :half], values[..., -half:]], -1)
        return values.reshape(len(values), 2 * self.num_chains, half)

    @functools.cached_property
    def _halves_ascending(self) -> tuple[torch.Tensor, torch.Tensor]:
        ordered, places = self.ascending
        if self.num_draws % 2 == 0:
            return ordered, places
        chain, draw, middle = places // self.num_draws, places % self.num_draws, self.num_draws // 2
        places = chain * (self.num_draws - 1) + draw - (draw > middle).to(torch.int64)
        kept = draw != middle
        return ordered[kept].view(len(ordered), -1), places[kept].view(len(ordered), -1)

    @functools.cached_property
    def _scores(self) -> torch.Tensor:
        return normal_scores(*self._halves_ascending).view_as(self._halves)

    @functools.cached_property
    def _folded_scores(self) -> torch.Tensor:
        return normal_scores(*fold(*self._halves_ascending)).view_as(self._halves)


def _times_power_of_2(numbers: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """Return ``(k, ...)`` numbers times 2^exponents ``(k,)``, in two steps: 2^1074 is no float64, though 2^-1074 is."""
    half = exponents.to(torch.int64) // 2
    for part in (half, exponents - half):
        power = ((part + 1023) << 52).view(torch.float64)  # the bits of a power of 2
        numbers = numbers * power.view(-1, *[1] * (numbers.ndim - 1))
    return numbers


def _ess(series: torch.Tensor) -> torch.Tensor:
    """Return the effective sample size of half-chains ``(k, m, n)``; the module has the formula."""
    _, num, length = series.shape
    means = series.mean(-1, keepdim=True)
    padded = _smooth_length(2 * length - 1)
    spectrum = torch.view_as_real(torch.fft.rfft(series - means, n=padded)).square_().flatten(2)
    average = torch.full((num,), 1.0 / num, device=series.device, dtype=torch.float64)
    power = torch.matmul(average, spectrum).unflatten(-1, (-1, 2))  # a product, for the speed of memory
    autocovariance = torch.fft.irfft(power[..., 0] + power[..., 1], n=padded)[:, :length] / length
    within = autocovariance[:, :1] * (length / (length - 1))
    total = autocovariance[:, :1] + means.var(1)
    most = max(0, (length - 3) // 2)
    rho = 1.0 - (within - autocovariance[:, : 2 * most + 2]) / total
    rho[:, 0] = 1.0
    even = rho[:, ::2]
    pairs = even + rho[:, 1::2]
    positive = (pairs[:, :most] > 0).cumprod(-1)
    stop = positive.sum(-1, keepdim=True)
    last, pair = even.gather(-1, stop), pairs.gather(-1, stop)
    last = torch.where((last > 0) | (pair >= 0), last, 0.0).squeeze(-1)
    tau = 2.0 * (pairs[:, :most].cummin(-1).values * positive).sum(-1) - 1.0 + last
    size = num * length
    return torch.where(total.squeeze(-1) > _LEAST_VARIANCE, size / tau.clamp(min=1.0 / math.log10(size)), float(size))


def _smooth_length(least: int) -> int:
    """Return the smallest product of a power of 2 and one of these of at least a number: quick to transform."""
    return min(odd << (-(-least // odd) - 1).bit_length() for odd in (1, 3, 5, 9, 15, 25, 27, 45, 75, 125))


def _moments(series: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return means and variances (divisor n - 1) of half-chains ``(k, m, n)``; torch's own take ten times as long."""
    means = series.mean(-1, keepdim=True)
    centred = series - means
    return means.squeeze(-1), torch.linalg.vecdot(centred, centred) / (series.shape[-1] - 1)


def _r_hat(series: torch.Tensor) -> torch.Tensor:
    length = series.shape[-1]
    means, variances = _moments(series)
    return (means.var(-1) / variances.mean(-1) + (length - 1) / length).sqrt()


def _nested_r_hat(series: torch.Tensor, num_superchains: int) -> torch.Tensor:
    means, variances = (numbers.unflatten(-1, (num_superchains, -1)) for numbers in _moments(series))
    within = variances.mean(-1) + means.var(-1)
    return (1.0 + means.mean(-1).var(-1) / within.mean(-1)).sqrt()


def _lasting_r_hat(series: torch.Tensor) -> torch.Tensor:
    means, variances = _moments(series)
    halves = means.unflatten(-1, (-1, 2))
    centres = halves.mean(-2, keepdim=True)
    covariance = (halves - centres).prod(-1).sum(-1) / (halves.shape[-2] - 1)
    drift = (centres[..., 0, 0] - centres[..., 0, 1]).square() / 4.0
    return (1.0 + (covariance + drift).clamp(min=0.0) / variances.mean(-1)).sqrt()
