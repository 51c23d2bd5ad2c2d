"""Each row of the dictionary against the library it is named after, where that is installed.

The knob comes from a prior, the library fits with it, and its weights and intercept must be the certified optimum of
the canonical penalty of the same prior. With the knob doubled they must not be: a check that passes says something.
"""

import functools
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from bayesreg.certificates import certify
from bayesreg.conventions import penalty_for, prior_for
from bayesreg.data import RegressionData
from bayesreg.penalties import L1, L2, Penalty
from bayesreg.priors import GaussianPrior, LaplacePrior

NOISE, N, D = 0.9, 24, 4


def _data():
    rng = np.random.default_rng(11)
    features = rng.normal(size=(N, D)) @ (np.eye(D) + 0.4 * np.ones((D, D))) + [0.3, -0.5, 0.0, 0.2]
    return RegressionData(features, 1.5 + features @ [1.2, 0.0, -0.6, 0.1] + NOISE * rng.normal(size=N))


DATA = _data()
X, Y = DATA.features, DATA.target
PRIORS = {"l2": GaussianPrior(scale=0.4), "l1": LaplacePrior(scale=0.2)}
KNOWN = {"noise_scale": NOISE, "num_rows": N, "target_scale": float(Y.std())}


def check(fit, convention, kind, tolerance, prior=None, **knowledge):
    """fit(knob) -> (weights, intercept) is the MAP at the knob that `penalty_for` gives, and not at its double."""
    prior = PRIORS[kind] if prior is None else prior
    canonical = penalty_for(prior, noise_scale=NOISE, num_rows=N)
    knob = penalty_for(prior, convention=convention, **{**KNOWN, **knowledge}).strength
    for factor, close in ((1, True), (2, False)):
        weights, intercept = fit(factor * knob)
        gap = certify(np.ravel(weights), DATA, canonical, intercept=intercept).relative_gap
        assert gap < tolerance if close else gap > max(20 * tolerance, 1e-3)


class TestScikitLearn:
    linear_model = pytest.importorskip("sklearn.linear_model")

    def test_ridge(self):
        def fit(alpha):
            model = self.linear_model.Ridge(alpha=alpha).fit(X, Y)
            return model.coef_, model.intercept_

        check(fit, "sklearn-ridge", "l2", 1e-20)

    def test_lasso(self):
        def fit(alpha):
            model = self.linear_model.Lasso(alpha=alpha, tol=1e-14, max_iter=100_000).fit(X, Y)
            return model.coef_, model.intercept_

        check(fit, "sklearn-lasso", "l1", 1e-12)

    def test_elastic_net(self):
        penalty = Penalty(l1=0.1, l2=0.3)
        there = penalty.to("sklearn-elasticnet")
        found = []
        for factor in (1, 2):
            model = self.linear_model.ElasticNet(
                alpha=factor * there.strength, l1_ratio=there.l1_ratio, tol=1e-14, max_iter=100_000
            ).fit(X, Y)
            found.append(certify(model.coef_, DATA, penalty, intercept=model.intercept_))
        assert found[0].relative_gap < 1e-12 and found[1].relative_gap > 1e-3

    def test_bayesian_ridge(self):
        """Its weights are the posterior mean, and mode, at its own alpha_ = 1/s^2 and lambda_ = 1/t^2."""
        model = self.linear_model.BayesianRidge(tol=1e-14, max_iter=100_000).fit(X, Y)
        noise = model.alpha_**-0.5
        penalty = L2(model.lambda_, "sklearn-bayesian-ridge")
        assert certify(model.coef_, DATA, penalty, noise_scale=noise).relative_gap < 1e-14
        assert certify(model.coef_, DATA, penalty, noise_scale=2 * noise).relative_gap > 1e-5
        prior = prior_for(penalty)
        assert prior.scale == pytest.approx(model.lambda_**-0.5, rel=1e-14)
        posterior_precision = (X - X.mean(axis=0)).T @ (X - X.mean(axis=0)) / noise**2 + np.eye(D) / prior.scale**2
        np.testing.assert_allclose(np.linalg.inv(posterior_precision), model.sigma_, rtol=1e-6)

    @pytest.mark.parametrize(("kind", "tolerance"), [("l2", 1e-5), ("l1", 2e-3)])
    def test_sgd_regressor(self, kind, tolerance):
        def fit(alpha):
            steps = {"learning_rate": "invscaling", "eta0": 0.05, "power_t": 0.5, "max_iter": 3000, "tol": None}
            model = self.linear_model.SGDRegressor(penalty=kind, alpha=alpha, random_state=0, **steps).fit(X, Y)
            return model.coef_, model.intercept_[0]

        check(fit, "mean-half-squared", kind, tolerance)


class TestTorch:
    """Trained by torch's own optimizers on the full batch (and in K mini-batches), the bias in a group of its own."""

    def train(self, reduction, optimizer, weight_decay, steps, learning_rate, l1=0.0, batches=1, decay=1.0, start=0.0):
        x, y = torch.tensor(X), torch.tensor(Y)
        w = torch.full((D,), start, dtype=torch.float64, requires_grad=True)
        b = torch.zeros((), dtype=torch.float64, requires_grad=True)
        groups = [{"params": [w], "weight_decay": weight_decay}, {"params": [b], "weight_decay": 0.0}]
        optimizer = optimizer(groups, lr=learning_rate)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
        loss_function = torch.nn.MSELoss(reduction=reduction)
        for _ in range(steps):
            for rows in torch.arange(N).chunk(batches):
                optimizer.zero_grad()
                (loss_function(x[rows] @ w + b, y[rows]) + l1 * w.abs().sum()).backward()
                optimizer.step()
            schedule.step()
        return w.detach().numpy(), b.item()

    def test_sgd_on_the_mean(self):
        check(lambda wd: self.train("mean", torch.optim.SGD, wd, 300, 0.15), "torch-mse-mean", "l2", 1e-14)

    def test_sgd_on_the_sum(self):
        def fit(wd):
            return self.train("sum", torch.optim.SGD, wd, 300, 0.15 / N)

        check(fit, "torch-mse-sum", "l2", 1e-14, steps_per_epoch=1)

    def test_sgd_on_the_sum_in_mini_batches(self):
        """Four steps an epoch decay four times: steps of 1e-3 are near the limit of small ones."""

        def fit(wd):
            return self.train("sum", torch.optim.SGD, wd, 200, 1e-3, batches=4)

        check(fit, "torch-mse-sum", "l2", 1e-4, steps_per_epoch=4)

    def test_l1_in_the_loss(self):
        def fit(strength):
            return self.train("mean", torch.optim.SGD, 0.0, 800, 0.1, l1=strength, decay=0.99)

        check(fit, "torch-mse-mean", "l1", 1e-4)

    def test_adam_full_batch(self):
        check(lambda wd: self.train("mean", torch.optim.Adam, wd, 800, 0.1, decay=0.99), "torch-adam", "l2", 1e-7)

    def test_adamw_ends_in_a_box_and_under_no_gaussian_prior(self):
        free = np.linalg.lstsq(np.c_[X, np.ones(N)], Y, rcond=None)[0]
        decay = 2.0  # |w_j| <= 1/2, which cuts the largest weight off
        assert np.abs(free[:D]).max() > 1 / decay
        adamw = functools.partial(torch.optim.AdamW, betas=(0.9, 0.95))  # a short memory, so that it ends soon
        weights, intercept = self.train("mean", adamw, decay, 1500, 0.05, decay=0.997, start=0.1)
        bounds = np.r_[np.full(D, 1 / decay), np.inf]
        box = lsq_linear(np.c_[X, np.ones(N)], Y, bounds=(-bounds, bounds), tol=1e-14).x
        np.testing.assert_allclose(np.r_[weights, intercept], box, atol=1e-3)
        centred, target = X - X.mean(axis=0), Y - Y.mean()
        path = [
            np.linalg.solve(centred.T @ centred / N + strength * np.eye(D), centred.T @ target / N)
            for strength in np.logspace(-4, 4, 400)
        ]
        assert min(np.abs(weights - ridge).max() for ridge in path) > 0.05


class TestCeler:
    def test_lasso(self):
        celer = pytest.importorskip("celer")

        def fit(alpha):
            model = celer.Lasso(alpha=alpha, tol=1e-14, max_iter=1000).fit(X, Y)
            return model.coef_, model.intercept_

        check(fit, "celer", "l1", 1e-12)

    def test_strengths_of_one_a_feature_are_its_weights(self):
        celer = pytest.importorskip("celer")

        def fit(weights):
            model = celer.Lasso(alpha=1.0, weights=np.array(weights), tol=1e-14, max_iter=1000).fit(X, Y)
            return model.coef_, model.intercept_

        check(fit, "celer", "l1", 1e-12, prior=LaplacePrior(scale=[0.1, 0.2, 0.3, 0.4]))


class TestSkglm:
    def test_lasso(self):
        skglm = pytest.importorskip("skglm")

        def fit(alpha):
            model = skglm.Lasso(alpha=alpha, tol=1e-12).fit(X, Y)
            return model.coef_, model.intercept_

        check(fit, "mean-half-squared", "l1", 1e-10)

    def test_elastic_net(self):
        skglm = pytest.importorskip("skglm")
        penalty = Penalty(l1=0.1, l2=0.3)
        for factor, close in ((1, True), (2, False)):
            model = skglm.ElasticNet(alpha=factor * penalty.strength, l1_ratio=penalty.l1_ratio, tol=1e-12).fit(X, Y)
            found = certify(model.coef_, DATA, penalty, intercept=model.intercept_)
            assert (found.relative_gap < 1e-10) == close


class TestStatsmodels:
    """It penalises the constant too, unless the columns are centred and there is none."""

    @pytest.mark.parametrize("kind", ["l2", "l1"])
    def test_fit_regularized(self, kind):
        api = pytest.importorskip("statsmodels.api")
        centred = X - X.mean(axis=0)

        def fit(alpha):
            model = api.OLS(Y - Y.mean(), centred)
            extra = {"cnvrg_tol": 1e-14, "maxiter": 5000} if kind == "l1" else {}
            return model.fit_regularized(alpha=alpha, L1_wt=float(kind == "l1"), **extra).params, None

        check(fit, "mean-half-squared", kind, 1e-10)


class TestKeras:
    @pytest.mark.parametrize("kind", ["l2", "l1"])
    def test_the_objective_is_the_one_it_minimises(self, kind, monkeypatch):
        monkeypatch.setitem(os.environ, "KERAS_BACKEND", "torch")
        keras = pytest.importorskip("keras")
        strength, weights, intercept = 0.3, np.array([0.5, -0.2, 0.0, 1.0]), 0.7
        regularizer = {"l2": keras.regularizers.L2, "l1": keras.regularizers.L1}[kind](strength)
        layer = keras.layers.Dense(1, kernel_regularizer=regularizer, dtype="float64")
        model = keras.Sequential([keras.Input((D,), dtype="float64"), layer])
        layer.set_weights([weights[:, None], np.array([intercept])])
        model.compile(loss="mse")
        theirs = model.evaluate(X, Y[:, None], batch_size=N, verbose=0)
        penalty = {"l2": L2, "l1": L1}[kind](strength, f"keras-{kind}")
        assert theirs == pytest.approx(certify(weights, DATA, penalty, intercept=intercept).objective, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
class TestLaplaceTorch:
    def test_prior_precision(self):
        """Its posterior precision at the MAP is Xc'Xc/s^2 + prior_precision: the curvature of the row's objective."""
        laplace = pytest.importorskip("laplace")
        knob = penalty_for(PRIORS["l2"], convention="laplace-torch", **KNOWN).strength
        layer = torch.nn.Linear(D, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.5, -0.2, 0.0, 1.0]]))
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y[:, None])), batch_size=N
        )
        found = laplace.Laplace(
            layer,
            "regression",
            subset_of_weights="all",
            hessian_structure="full",
            sigma_noise=NOISE,
            prior_precision=knob,
        )
        found.fit(loader)
        expected = X.T @ X / NOISE**2 + np.eye(D) / PRIORS["l2"].scale ** 2
        np.testing.assert_allclose(found.posterior_precision.numpy(), expected, rtol=1e-6)


def test_glmnet():
    """The R package through Rscript, in one call: ridge, lasso, and an elastic net with penalty factors."""
    found = shutil.which("Rscript")
    if not found or subprocess.run([found, "-e", "library(glmnet)"], capture_output=True, timeout=60).returncode:
        pytest.skip("needs Rscript with glmnet")
    factors = np.array([0.5, 1.0, 2.0, 3.0])
    penalties = [L2(0.2), L1(0.15), Penalty(l1=0.1 * factors, l2=0.3 * factors)]
    settings = []  # lambda, alpha, penalty.factor: at the penalty, then at its double
    for penalty in penalties:
        there = penalty.to("glmnet", **KNOWN)
        strengths = np.broadcast_to(there.strength, D)
        settings += [(factor * float(strengths.mean()), there.l1_ratio, strengths) for factor in (1, 2)]

    def vector(values):
        return f"c({','.join(repr(float(v)) for v in np.ravel(values))})"

    code = f"suppressMessages(library(glmnet)); x <- matrix({vector(X)}, {N}, byrow=TRUE); y <- {vector(Y)};" + "".join(
        f"fit <- glmnet(x, y, lambda={strength!r}, alpha={ratio!r}, penalty.factor={vector(factors)},"
        "standardize=FALSE, thresh=1e-22, maxit=1e7); cat(sprintf('%.17g ', as.vector(as.matrix(coef(fit)))));"
        for strength, ratio, factors in settings
    )
    out = subprocess.run([found, "-e", code], capture_output=True, text=True, check=True, timeout=60).stdout
    fits = np.array([float(v) for v in out.split()]).reshape(len(penalties), 2, 1 + D)
    for penalty, (right, wrong) in zip(penalties, fits, strict=True):
        assert certify(right[1:], DATA, penalty, intercept=right[0]).relative_gap < 1e-10
        assert certify(wrong[1:], DATA, penalty, intercept=wrong[0]).relative_gap > 1e-3
