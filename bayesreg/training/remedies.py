"""The other remedies against overfitting, each beside the ridge fit that it is equivalent to.

All of them fit the loss RSS / 2n, and strengths are those of RSS / 2n + sum_j lambda_j w_j^2 / 2
(`mean-half-squared`). With data in standard units one strength is the same pull on every feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bayesreg.computing.arrays import check_whole_number
from bayesreg.computing.threads import threads_for
from bayesreg.data import RegressionData
from bayesreg.moments import Moments
from bayesreg.optimum import penalised_optimum
from bayesreg.penalties import Penalty
from bayesreg.training.checks import checked_start
from bayesreg.training.input_masks import train_with_dropout
from bayesreg.training.remedy import Remedy, Rows, half_mean_square, knob_values
from bayesreg.training.ridge_spectrum import RidgeSpectrum

__all__ = ["Remedy", "bagging", "dropout", "early_stopping", "input_noise", "more_data"]


def early_stopping(
    data: RegressionData,
    steps: Sequence[int] = (10, 100, 1000, 10_000),
    learning_rate: float | None = None,
    test: RegressionData | None = None,
    *,
    intercept: bool = True,
    start: Sequence[float] | torch.Tensor | None = None,
) -> Remedy:
    """Stop gradient descent on the full batch after k steps of size eta.

    With the intercept at its best all along, H = Xc'Xc/n, start w_0 and w_ols the least-squares fit nearest to it,

        w_k = w_ols + (I - eta H)^k (w_0 - w_ols),

    made here from one decomposition, exactly. Along a direction of curvature h the way to w_ols is gone by the share
    1 - (1 - eta h)^k, for small eta h about 1 - exp(-h t) with t = eta k; ridge towards the start with lambda = 1 / t
    goes h t / (1 + h t) of it. Both are h t where that is small and 1 where it is large, and the former is 1 to 1.3
    times the latter, at most 0.21 more: the equivalence is a near one.

    Sources: Bishop, Neural Networks for Pattern Recognition (1995), section 9.2.4; Goodfellow, Bengio and Courville,
    Deep Learning (2016), section 7.8; Ali, Kolter and Tibshirani, "A continuous-time view of early stopping for least
    squares regression" (AISTATS 2019).

    Args:
        data: The rows.
        steps: Numbers of steps k, at least 1.
        learning_rate: eta, below 2 / L with L the largest eigenvalue of H; None: 0.1 / L.
        test: Rows to test on, in the units of `data`.
        intercept: Whether there is an intercept.
        start: Weights (d,) to start from; None: zeros.

    Returns:
        The fits; ridge beside them pulls towards the start.

    Raises:
        TypeError: If the data are not rows, or a setting is of another type.
        ValueError: If a number is out of range, or start or test rows do not fit the data.

    Example:
        >>> import bayesreg as br
        >>> found = br.early_stopping(br.load_diabetes().standardized(), steps=[10, 100], learning_rate=0.1)
        >>> found.equivalent_lambda.tolist(), bool((found.difference < 0.25).all())
        ([1.0, 0.1], True)
    """
    rows = Rows.checked(data, test, intercept, "early_stopping")
    counts = knob_values(steps, "steps", 1, whole=True)
    # A start of train() is a pair; the intercept is at its best here.
    centre = None if start is None else checked_start((start, 0.0), data.num_features, intercept)[0].numpy()
    spectrum = RidgeSpectrum(data, intercept, centre)
    limit = 2.0 / spectrum.curvatures[0] if spectrum.curvatures.size else np.inf
    rate = _checked_rate(learning_rate, limit)
    weights = spectrum.shrunk(_gone(rate * spectrum.curvatures, counts[:, None]))
    fits = weights, spectrum.intercepts(weights)
    return rows.remedy("early stopping", "steps", counts, fits, 1.0 / (rate * counts), spectrum=spectrum)


def _checked_rate(learning_rate: float | None, limit: float) -> float:
    """Return the learning rate of gradient descent.

    Args:
        learning_rate: What was given.
        limit: 2 / L.

    Returns:
        It, or 0.1 / L for None.

    Raises:
        TypeError: If it is no number.
        ValueError: If gradient descent does not converge with it.
    """
    if learning_rate is None:
        return 0.05 * limit if limit < np.inf else 1.0
    if isinstance(learning_rate, bool) or not isinstance(learning_rate, int | float | np.floating):
        raise TypeError(f"learning_rate must be a number or None, got {learning_rate!r}")
    if not 0 < learning_rate < min(limit, np.inf):
        raise ValueError(f"learning_rate must be positive and below 2 / L = {limit:.6g}, got {learning_rate!r}")
    return float(learning_rate)


def _gone(moves: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return 1 - (1 - m)^k for 0 < m < 2, without cancellation where m k is small."""
    small = np.minimum(moves, 0.5)
    return np.where(moves < 0.5, -np.expm1(counts * np.log1p(-small)), 1.0 - (1.0 - moves) ** counts)


def dropout(
    data: RegressionData,
    rates: Sequence[float] = (0.1, 0.3, 0.5),
    seed: int = 0,
    test: RegressionData | None = None,
    *,
    intercept: bool = True,
    steps: int = 20_000,
    batch_size: int = 32,
) -> Remedy:
    """Train by SGD with each input dropped at random: set to 0 with probability p, else divided by 1 - p.

    The dropped input x~_j has mean x_j and variance p/(1-p) x_j^2, independently of the others. So the expected loss is

        E (y - b - x~'w)^2 / 2 = (y - b - x'w)^2 / 2 + p/(1-p) sum_j x_j^2 w_j^2 / 2,

    and its mean over the rows is the ridge objective with one strength a feature, the intercept free of it:

        lambda_j = p/(1-p) mean(x_j^2),

    exactly. The mean square is about 0 and not about the mean, since 0 is what a dropped input is set to: in columns
    far from 0 the offset is punished too. In standard units lambda_j = p/(1-p) for all.

    What is measured is real training (`bayesreg.training.input_masks`): new rows and new masks at every step, at a
    constant rate, averaged over the second half of the steps. On a quadratic loss that average has no bias but what is
    left of the start, and the difference from ridge falls as 1 / sqrt(steps).

    Sources: Srivastava et al., "Dropout" (JMLR 15, 2014), section 9.1; Wager, Wang and Liang, "Dropout training as
    adaptive regularization" (NeurIPS 2013).

    Args:
        data: The rows.
        rates: Probabilities p of dropping an input, at least 0 and below 1.
        seed: Of rows and masks, which all rates share.
        test: Rows to test on, in the units of `data`.
        intercept: Whether there is an intercept; it is not dropped.
        steps: Number of steps, at least 2.
        batch_size: Rows in a step, drawn with replacement.

    Returns:
        The fits, with equivalent strengths (K, d).

    Raises:
        TypeError: If the data are not rows, or a setting is of another type.
        ValueError: If a number is out of range, or the test rows do not fit the data.

    Example:
        >>> import bayesreg as br
        >>> found = br.dropout(br.load_diabetes().standardized(), rates=[0.5], steps=4000)
        >>> bool(abs(found.equivalent_lambda - 1.0).max() < 1e-12), bool(found.difference[0] < 0.2)
        (True, True)
    """
    rows = Rows.checked(data, test, intercept, "dropout")
    values = knob_values(rates, "rates", 0.0, below=1.0)
    seed, steps = check_whole_number(seed, "seed", 0), check_whole_number(steps, "steps", 2)
    batch_size = check_whole_number(batch_size, "batch_size", 1)
    strengths = (values / (1.0 - values))[:, None] * np.square(data.features).mean(axis=0)
    fits = train_with_dropout(data, values, strengths, seed, steps, batch_size, intercept)
    moments = _moments(Moments.from_data(data), intercept)
    exact = np.stack([penalised_optimum(moments, Penalty(l2=one)) for one in strengths])
    return rows.remedy("dropout", "rate", values, fits, strengths, exact)


def input_noise(
    data: RegressionData,
    scales: Sequence[float] = (0.1, 0.3, 1.0),
    seed: int = 0,
    test: RegressionData | None = None,
    *,
    intercept: bool = True,
    copies: int = 100,
) -> Remedy:
    """Fit by least squares to copies of the rows with noise of standard deviation sigma on every input.

    For noise e ~ N(0, sigma^2 I) of its own on each copy,

        E (y - b - (x + e)'w)^2 / 2 = (y - b - x'w)^2 / 2 + sigma^2 |w|^2 / 2,

    the ridge objective with lambda = sigma^2, exactly: infinitely many copies are ridge. With m of them the relative
    difference is of the order of sqrt(d / (m n)). sigma is in the units of the columns; in standard units it means the
    same for all.

    Source: Bishop, "Training with noise is equivalent to Tikhonov regularization" (Neural Computation 7, 1995).

    Args:
        data: The rows.
        scales: Standard deviations sigma of the noise, positive; they share their random numbers.
        seed: Of the noise.
        test: Rows to test on, in the units of `data`.
        intercept: Whether there is an intercept.
        copies: Number m of noisy copies of each row.

    Returns:
        The fits.

    Raises:
        TypeError: If the data are not rows, or a setting is of another type.
        ValueError: If a number is out of range, or the test rows do not fit the data.

    Example:
        >>> import bayesreg as br
        >>> found = br.input_noise(br.load_diabetes().standardized(), scales=[0.5], copies=400)
        >>> found.equivalent_lambda.tolist(), bool(found.difference[0] < 0.05)
        ([0.25], True)
    """
    rows = Rows.checked(data, test, intercept, "input_noise")
    values = knob_values(scales, "scales", np.finfo(np.float64).tiny)
    generator = np.random.default_rng(check_whole_number(seed, "seed", 0))
    copies = check_whole_number(copies, "copies", 1)
    sums = [0] * len(values)
    for _ in range(copies):
        noise = generator.standard_normal(data.features.shape)
        for k, scale in enumerate(values):
            sums[k] += Moments.from_batches([(data.features + scale * noise, data.target)])
    noisy = [_moments(one, intercept) for one in sums]
    weights = np.stack([penalised_optimum(one, Penalty()) for one in noisy])
    intercepts = np.array([one.target_mean - w @ one.feature_means for one, w in zip(noisy, weights, strict=True)])
    return rows.remedy("input noise", "scale", values, (weights, intercepts), values**2)


def bagging(
    data: RegressionData,
    sizes: Sequence[int] = (1, 10, 100),
    seed: int = 0,
    test: RegressionData | None = None,
    *,
    intercept: bool = True,
    penalty: Penalty | None = None,
) -> Remedy:
    """Average the fits to bootstrap samples: n of the rows, drawn with replacement, for each member of an ensemble.

    The members' weights and intercepts are averaged, which is what averaging their predictions does. There is no ridge
    strength that this is equivalent to, and `equivalent_lambda` is None; `nearest_lambda` is the strength that comes
    nearest in fitted values, and `difference` says how far from it the weights are.

    Source: Breiman, "Bagging predictors" (Machine Learning 24, 1996).

    Args:
        data: The rows.
        sizes: Numbers of members; the first members of a larger ensemble are those of a smaller one.
        seed: Of the samples.
        test: Rows to test on, in the units of `data`.
        intercept: Whether there is an intercept.
        penalty: The L2 penalty of each member, one strength for all features; None: none, the least-squares fit of
            minimum norm.

    Returns:
        The fits.

    Raises:
        TypeError: If the data are not rows, or a setting is of another type.
        ValueError: If a number is out of range, the penalty is another one, or the test rows do not fit the data.

    Example:
        >>> import bayesreg as br
        >>> found = br.bagging(br.simulate_weight_decay(seed=0)[0], sizes=[1, 20])
        >>> found.equivalent_lambda is None, bool(found.difference[1] < found.difference[0])
        (True, True)
    """
    rows = Rows.checked(data, test, intercept, "bagging")
    counts = knob_values(sizes, "sizes", 1, whole=True)
    generator = np.random.default_rng(check_whole_number(seed, "seed", 0))
    strength = np.array([_ridge_strength(penalty, data.num_rows)])
    fits = []
    for _ in range(counts.max()):
        spectrum = RidgeSpectrum(_some_rows(data, generator.integers(0, data.num_rows, data.num_rows)), intercept)
        weights = spectrum.ridge(strength)
        fits.append(np.append(weights[0], spectrum.intercepts(weights)))
    means = np.cumsum(fits, axis=0)[counts - 1] / counts[:, None]
    return rows.remedy("bagging", "members", counts, (means[:, :-1].copy(), means[:, -1].copy()), None)


def more_data(
    data: RegressionData,
    sizes: Sequence[int],
    seed: int = 0,
    test: RegressionData | None = None,
    *,
    intercept: bool = True,
    penalty: Penalty | None = None,
) -> Remedy:
    """Fit the first n of the rows, in an order drawn at random, for growing n.

    Each fit is the penalised one at its n, and the equivalent strength is that of its penalty, exactly. A prior of
    scale t under noise of scale s has lambda = s^2 / (n t^2): held in posterior units, as `sklearn-ridge` has it
    (alpha = s^2 / t^2), the canonical strength falls as 1 / n, and the data take over. `ridge_weights` come from
    another solver; `difference` is rounding.

    Args:
        data: The rows to take from, at least as many as the largest size.
        sizes: Numbers n of rows; a larger set holds the smaller ones.
        seed: Of the order.
        test: Rows to test on, in the units of `data`.
        intercept: Whether there is an intercept.
        penalty: The L2 penalty, one strength for all features, such as `L2(1.0, "sklearn-ridge")`; None: none, the
            least-squares fit of minimum norm.

    Returns:
        The fits; the training loss is that of the n rows.

    Raises:
        TypeError: If the data are not rows, or a setting is of another type.
        ValueError: If a number is out of range, the penalty is another one, or the test rows do not fit the data.

    Example:
        >>> import bayesreg as br
        >>> data, test = br.simulate_weight_decay(seed=0, num_train=400)
        >>> found = br.more_data(data, [20, 400], test=test, penalty=br.L2(2.0, "sklearn-ridge"))
        >>> found.equivalent_lambda.tolist(), bool(found.test_loss[1] < found.test_loss[0])
        ([0.1, 0.005], True)
    """
    rows = Rows.checked(data, test, intercept, "more_data")
    counts = knob_values(sizes, "sizes", 1, below=data.num_rows + 1, whole=True)
    order = np.random.default_rng(check_whole_number(seed, "seed", 0)).permutation(data.num_rows)
    parts = [_some_rows(data, order[:count]) for count in counts]
    strengths = np.array([_ridge_strength(penalty, count) for count in counts])
    spectra = [RidgeSpectrum(part, intercept) for part in parts]
    weights = np.concatenate([one.ridge(strengths[[k]]) for k, one in enumerate(spectra)])
    each = list(zip(spectra, weights[:, None], parts, strict=True))
    intercepts = np.concatenate([spectrum.intercepts(w) for spectrum, w, _ in each])
    exact = [
        penalised_optimum(_moments(Moments.from_data(part), intercept), Penalty(l2=float(strength)))
        if strength
        else _least_norm(part, intercept)
        for part, strength in zip(parts, strengths, strict=True)
    ]
    return rows.remedy(
        "more data",
        "rows",
        counts,
        (weights, intercepts),
        strengths,
        np.stack(exact),
        nearest=np.concatenate([spectrum.nearest(w) for spectrum, w, _ in each]),
        train_loss=np.concatenate([half_mean_square(part, w, intercepts[[k]]) for k, (_, w, part) in enumerate(each)]),
    )


def _moments(moments: Moments, intercept: bool) -> Moments:
    return moments if intercept else moments.about_origin()


def _least_norm(data: RegressionData, intercept: bool) -> np.ndarray:
    """Return the least-squares fit of minimum norm; `penalised_optimum` is free to return another one."""
    columns = np.column_stack([data.features, data.target])
    columns = columns - columns.mean(axis=0) if intercept else columns
    with threads_for(min(columns.shape)):
        return np.linalg.lstsq(columns[:, :-1], columns[:, -1], rcond=None)[0]


def _some_rows(data: RegressionData, places: np.ndarray) -> RegressionData:
    names = {"feature_names": data.feature_names, "target_name": data.target_name}
    return RegressionData(data.features[places], data.target[places], **names, transform=data.transform)


def _ridge_strength(penalty: Penalty | None, num_rows: int) -> float:
    """Return the canonical strength of an L2 penalty for so many rows.

    Args:
        penalty: The penalty, or None.
        num_rows: n.

    Returns:
        lambda; 0 without a penalty.

    Raises:
        TypeError: If it is no `Penalty`.
        ValueError: If it is not L2 alone, with one strength and centre 0.
    """
    if penalty is None:
        return 0.0
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty must be a Penalty, such as L2(0.1), or None, got {penalty!r}")
    if np.any(penalty.l1) or np.ndim(penalty.l2) or np.any(penalty.centre):
        raise ValueError(f"penalty must be an L2 one of one strength, towards 0, got {penalty!r}")
    return float(penalty.canonical(num_rows=int(num_rows)).l2)
