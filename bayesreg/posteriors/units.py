"""What the change from standard to original units does to draws, and to the densities that they come from.

With y = m_y + s_y u and x_j = m_j + s_j z_j, a fit u = b' + z'w' with noise of scale s' is y = b + x'w with noise s:

    w_j = s_y w'_j / s_j,      b = m_y + s_y b' - sum_j m_j w_j,      s = s_y s',

and a weight's prior of scale t' has the scale s_y t' / s_j, or t' / s_j where t' multiplies the noise scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from bayesreg.model import LinearRegression
    from bayesreg.standardization import Standardization


def to_original_units(
    draws: Mapping[str, torch.Tensor], transform: Standardization, relative_to_noise: bool
) -> dict[str, torch.Tensor]:
    """Take draws of weights, intercept and learned scales, from the posterior or from the prior, to original units.

    Args:
        draws: ``weights (..., d)``, ``intercept``, ``noise_scale``, ``prior_scale`` ``(...)``, those that there are.
        transform: The standardisation.
        relative_to_noise: Whether the prior's scale multiplies the noise scale.

    Returns:
        The same names; ``prior_scale (..., d)``, one a feature.
    """
    original = {}
    for name, values in draws.items():
        if name == "weights":
            original[name] = transform.to_original_weights(values)
        elif name == "intercept":
            original[name] = transform.to_original_intercept(draws["weights"], values)
        elif name == "noise_scale":
            original[name] = transform.to_original_noise_scale(values)
        else:
            unit = transform.target_scale if relative_to_noise else 1.0  # the noise scale brings the target's unit
            original[name] = transform.to_original_prior_scale(values.unsqueeze(-1)) / unit
    return original


def log_prior_shifts(transform: Standardization) -> dict[str, float]:
    """Return what original units add to the log prior density of the weights and of each learned scale.

    Args:
        transform: The standardisation.

    Returns:
        Minus the log Jacobians. The prior of a learned prior scale stays that of the one scale in standard units.
    """
    return {
        "weights": -float(np.log(transform.target_scale / transform.feature_scales).sum()),
        "noise_scale": -math.log(transform.target_scale),
        "prior_scale": 0.0,
    }


def log_evidence_shift(model: LinearRegression, transform: Standardization, num_rows: int) -> float:
    """Return what original units add to log p(y): the rows' Jacobian, and that of all that has the flat density 1.

    Args:
        model: The model.
        transform: The standardisation.
        num_rows: The number n of rows.

    Returns:
        A number in nats.
    """
    prior_shifts = log_prior_shifts(transform)
    shift = (int(model.intercept) - num_rows) * math.log(transform.target_scale)
    if model.prior.kind == "flat":
        shift -= prior_shifts["weights"]
    if model.noise_is_learned and model.learned_scales["noise_scale"].is_flat:
        shift -= prior_shifts["noise_scale"]
    return shift
