"""The table of the learned scales against quadrature over the scales themselves: ridges, bounds and heavy tails."""

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats
import torch

import bayesreg as br
from bayesreg.evidence import EvidenceSpectrum
from bayesreg.inference import scale_table
from bayesreg.inference.scale_table import ScaleTable

HALF_NORMAL, BOUNDED = dist.HalfNormal(1.0), dist.Uniform(0.0, 3.0)


def tabulated(model, data):
    target = model.target(data)
    return ScaleTable(target, target.spectrum.log_evidence_at_ratio, 0 if model.prior.relative_to_noise else 1)


def ridge_data(rows, columns):
    random = np.random.default_rng(rows + columns)
    features = np.eye(rows) if columns == rows else random.standard_normal((rows, columns))
    return br.RegressionData(features, random.standard_normal(rows))


def quadrature(data, noise, prior, nodes=500):
    """Log evidence, and mean and sd of both scales, by Gauss-Legendre over the scales of the centred rows' Gaussian."""
    contrasts = scipy.linalg.null_space(np.ones((1, data.num_rows))).T
    variances, rotation = np.linalg.eigh(contrasts @ data.features @ data.features.T @ contrasts.T)
    squares = (rotation.T @ contrasts @ data.target) ** 2
    roots, weights = np.polynomial.legendre.leggauss(nodes)
    axes, log_weights = {}, 0.0
    for axis, (name, learned) in enumerate((("noise_scale", noise), ("prior_scale", prior))):
        end = 3.0 if isinstance(learned, dist.Uniform) else 9.0
        axes[name] = np.expand_dims(end / 2 * (roots + 1.0), 1 - axis)
        density = scipy.stats.uniform(0, 3) if isinstance(learned, dist.Uniform) else scipy.stats.halfnorm()
        log_weights = log_weights + np.expand_dims(np.log(end / 2 * weights), 1 - axis) + density.logpdf(axes[name])
    table = log_weights - 0.5 * np.log(data.num_rows)
    for variance, square in zip(variances, squares, strict=True):
        total = axes["noise_scale"] ** 2 + max(variance, 0.0) * axes["prior_scale"] ** 2
        table = table - 0.5 * (np.log(2 * np.pi * total) + square / total)
    mass = np.exp(table - table.max())
    moments = {}
    for name, axis in axes.items():
        mean = (mass * axis).sum() / mass.sum()
        moments[name] = mean, ((mass * (axis - mean) ** 2).sum() / mass.sum()) ** 0.5
    return table.max() + np.log(mass.sum()), moments


@pytest.mark.parametrize("shape", [(30, 30), (20, 200)], ids=["identity", "wide"])
@pytest.mark.parametrize(
    ("noise", "prior"),
    [(HALF_NORMAL, HALF_NORMAL), (BOUNDED, HALF_NORMAL), (HALF_NORMAL, BOUNDED)],
    ids=["half-lines", "bounded noise", "bounded prior"],
)
def test_a_ridge_is_integrated_and_drawn_from(shape, noise, prior):
    """As many features as rows, or more: s^2 + t^2 S^2 is nearly all that the data tell."""
    data = ridge_data(*shape)
    table = tabulated(br.LinearRegression(br.GaussianPrior(prior), noise), data)
    log_evidence, moments = quadrature(data, noise, prior)
    assert table.evidence_error < table.allowed_error == 1e-10
    assert np.prod(table.shape) < 300_000
    assert table.log_evidence == pytest.approx(log_evidence, abs=1e-9)
    draws = table.draw_chains(40_000, [torch.Generator().manual_seed(0)])[0]
    nodes, probabilities = table.nodes()
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-12)
    for name, (mean, sd) in moments.items():
        values = draws[name].numpy()
        assert float(probabilities @ nodes[name]) == pytest.approx(mean, abs=1e-8 * sd)
        assert float(probabilities @ (nodes[name] - mean).square()) == pytest.approx(sd**2, rel=1e-8)
        kurtosis = ((values - mean) ** 4).mean() / sd**4
        assert abs(values.mean() - mean) < 4.5 * sd / 200
        assert abs(values.std() / sd - 1.0) < 4.5 * ((kurtosis - 1.0) / 40_000) ** 0.5 / 2


def test_bounds_on_both_scales():
    data = ridge_data(8, 8)
    table = tabulated(br.LinearRegression(br.GaussianPrior(BOUNDED), BOUNDED), data)
    assert table.log_evidence == pytest.approx(quadrature(data, BOUNDED, BOUNDED)[0], abs=1e-9)


@pytest.mark.parametrize(("noise", "prior"), [(0.001, 1.0), (1.0, 0.001)])
def test_a_prior_that_all_but_fixes_a_scale(noise, prior):
    """A thin band across the other coordinates; in the limit, the other scale alone is learned."""
    data, thin = ridge_data(20, 20), dist.LogNormal(0.0, 1e-4)
    both = br.LinearRegression(br.GaussianPrior(thin if prior < 1 else HALF_NORMAL), thin if noise < 1 else HALF_NORMAL)
    fixed = both.conditioned(**({"noise_scale": 1.0} if noise < 1 else {"prior_scale": 1.0}))
    table = tabulated(both, data)
    assert table.evidence_error < 1e-10
    assert table.log_evidence == pytest.approx(tabulated(fixed, data).log_evidence, abs=1e-6)


def weak_data():
    random = np.random.default_rng(1)
    return br.RegressionData(random.standard_normal((20, 3)), 0.5 * random.standard_normal(20))


@pytest.mark.parametrize("learned", [dist.Gamma(0.1, 0.1), dist.Weibull(1.0, 0.1)], ids=["gamma", "weibull"])
def test_a_density_that_falls_slowly_is_a_density(learned):
    """Weak data leave the prior scale a tail t^0.1 towards 0, which has fallen by 30 nats where float64 ends."""
    data = weak_data()
    table = tabulated(br.LinearRegression(br.GaussianPrior(learned), 0.5), data)
    spectrum = EvidenceSpectrum.of(br.Moments.from_data(data), np.ones(3), np.zeros(3))

    def density(log_scale):
        scale = torch.tensor(np.exp(log_scale), dtype=torch.float64)
        evidence = spectrum.log_evidence(torch.tensor(0.5, dtype=torch.float64), scale)
        prior = float(type(learned)(*PARAMETERS[type(learned)]).log_prob(scale))
        return np.exp(float(evidence) + prior + log_scale)

    mass = sum(scipy.integrate.quad(density, low, low + 20.0, epsabs=0, epsrel=1e-10)[0] for low in range(-260, 20, 20))
    assert table.log_evidence == pytest.approx(np.log(mass), abs=1e-7)
    assert table.evidence_error < 1e-10


PARAMETERS = {
    dist.Gamma: torch.tensor([0.1, 0.1], dtype=torch.float64),
    dist.Weibull: torch.tensor([1.0, 0.1], dtype=torch.float64),
}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("learned", [dist.Gamma(0.1, 0.1), dist.InverseGamma(0.1, 0.1)], ids=["gamma", "inverse"])
def test_one_row_or_two(rows, learned):
    data = weak_data()
    few = br.RegressionData(data.features[:rows], data.target[:rows])
    table = tabulated(br.LinearRegression(br.GaussianPrior(1.0), learned), few)
    if rows == 1:  # the intercept takes the row: the evidence is the prior's own mass
        assert table.log_evidence == pytest.approx(0.0, abs=1e-10)
    assert table.evidence_error < 1e-10


def test_what_lies_beyond_float64_counts_as_an_error_or_is_refused():
    wide = tabulated(br.LinearRegression(br.GaussianPrior(dist.LogNormal(0.0, 50.0)), 0.5), weak_data())
    assert 1e-9 < wide.evidence_error < 1e-8  # Phi(-300/50), of a posterior that is about half the prior
    with pytest.raises(ValueError, match="too heavy a tail: about 0.053 of its mass .* prior_scale is below 5e-131"):
        tabulated(br.LinearRegression(br.GaussianPrior(dist.Gamma(0.01, 0.01)), 0.5), weak_data())


def test_rows_whose_brackets_differ_are_drawn_from_exactly_and_soon():
    """Fewer rows than features and bounds on both scales: nothing between two rows of the table can be interpolated."""
    random = np.random.default_rng(6)
    features = random.standard_normal((6, 30))
    data = br.RegressionData(features, features[:, 0] + 0.1 * random.standard_normal(6))
    table = tabulated(br.LinearRegression(br.GaussianPrior(BOUNDED), BOUNDED), data)
    assert table._mixture.acceptance > 0.7  # a table that cannot be interpolated keeps one in thousands
    draws = table.draw_chains(10_000, [torch.Generator().manual_seed(0)])[0]
    for name, (mean, sd) in quadrature(data, BOUNDED, BOUNDED)[1].items():
        values = draws[name].numpy()
        assert abs(values.mean() - mean) < 4.5 * sd / 100
        assert values.std() == pytest.approx(sd, rel=0.05)


def test_a_coarse_table_costs_proposals_and_no_truth(monkeypatch):
    monkeypatch.setattr(scale_table, "_FEWEST_NODES", 33)
    data = ridge_data(30, 30)
    target = br.LinearRegression(br.GaussianPrior(HALF_NORMAL), HALF_NORMAL).target(data)
    table = ScaleTable(target, target.spectrum.log_evidence_at_ratio, 1, tolerance=10.0)
    assert table.shape[1] == 33
    proposed, log_density, log_keep = table.propose(50_000, [torch.Generator().manual_seed(1)])
    assert float(log_keep.max()) <= 0.0 and float(log_keep.exp().mean()) < 0.95
    uniform = torch.rand(log_keep.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    kept = {name: values[uniform < log_keep.exp()] for name, values in proposed.items()}
    drawn = {
        name: values[0] for name, values in table.draw_chains(40_000, [torch.Generator().manual_seed(0)])[0].items()
    }
    for draws in (kept, drawn):
        for name, (mean, sd) in quadrature(data, HALF_NORMAL, HALF_NORMAL)[1].items():
            values = draws[name].numpy()
            kurtosis = ((values - mean) ** 4).mean() / sd**4
            assert abs(values.mean() - mean) < 4.5 * sd / len(values) ** 0.5
            assert abs(values.std() / sd - 1.0) < 4.5 * ((kurtosis - 1.0) / len(values)) ** 0.5 / 2
