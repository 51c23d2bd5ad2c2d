"""The interpolation between rows of a ridge that bends and changes its width, against the ridge itself."""

import math

import pytest
import torch

from bayesreg.inference.row_mixture import RowMixture

LIKE = {"dtype": torch.float64, "device": "cpu"}


def width(outer):
    return 0.05 * (0.5 * outer).exp()


def ridge(outer, inner):
    """x ~ Normal(0.5, 1), y ~ Normal(sin x, (0.05 e^(x/2))^2): it moves by far more than its width."""
    standard = (inner - outer.sin()) / width(outer)
    return -0.5 * (outer - 0.5).square() - 0.5 * standard.square() - 0.5 * outer


def table(rows, nodes=129):
    """The ridge by rows with brackets that are wider than they need be, and not alike."""
    lower_end, step = -7.5, 16.0 / (rows - 1)
    outer = lower_end + step * torch.arange(rows, **LIKE)
    slack = 10.0 + 2.0 * torch.sin(37.0 * outer)
    lower, upper = (outer.sin() + side * slack * width(outer) for side in (-1.0, 1.0))
    steps = (upper - lower) / (nodes - 1)
    values = ridge(outer.unsqueeze(-1), lower.unsqueeze(-1) + steps.unsqueeze(-1) * torch.arange(nodes, **LIKE))
    return RowMixture(
        ridge, torch.tensor(lower_end, **LIKE), torch.tensor(step, **LIKE), lower, steps, values + steps.log()[:, None]
    )


def generators(*seeds):
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(("rows", "least"), [(129, 0.8), (513, 0.97)])
def test_rejection_from_the_envelope_is_the_ridge(rows, least):
    mixture = table(rows)
    assert mixture.acceptance > least
    proposed = mixture.draw(100_000, generators(0))
    log_ratio = ridge(proposed.outer, proposed.inner) - proposed.log_envelope
    assert float((log_ratio > 0.02).double().mean()) < 1e-3
    keep = torch.rand(log_ratio.shape, generator=generators(1)[0], **LIKE) <= log_ratio.exp()
    assert float(keep.double().mean()) == pytest.approx(mixture.acceptance, abs=0.01)
    outer, inner = proposed.outer[keep], proposed.inner[keep]
    standard = (inner - outer.sin()) / width(outer)
    for values in (outer - 0.5, standard):  # independent standard normals
        assert abs(float(values.mean())) < 4.5 / len(values) ** 0.5
        assert abs(float(values.std()) - 1.0) < 4.5 / (2 * len(values)) ** 0.5
    assert abs(float((standard * (outer - 0.5)).mean())) < 4.5 / len(values) ** 0.5


def test_a_single_row():
    nodes, step = 129, 16.0 / 128

    def normal(outer, inner):
        return -0.5 * inner.square()

    values = normal(None, -8.0 + step * torch.arange(nodes, **LIKE)).unsqueeze(0) + math.log(step)
    zero, steps = torch.zeros((), **LIKE), torch.full((1,), step, **LIKE)
    mixture = RowMixture(normal, zero, zero, torch.full((1,), -8.0, **LIKE), steps, values)
    proposed = mixture.draw(50_000, generators(0))
    log_ratio = normal(None, proposed.inner) - proposed.log_envelope
    assert mixture.acceptance > 0.98 and float(log_ratio.amax()) <= 0.0
    keep = torch.rand(log_ratio.shape, generator=generators(1)[0], **LIKE) <= log_ratio.exp()
    inner = proposed.inner[keep]
    assert abs(float(inner.mean())) < 4.5 / len(inner) ** 0.5
    assert abs(float(inner.std()) - 1.0) < 4.5 / (2 * len(inner)) ** 0.5


def test_a_generator_gives_the_same_beside_others():
    mixture = table(33)
    alone, beside = mixture.draw(500, generators(2)), mixture.draw(500, generators(1, 2, 3))
    assert torch.equal(alone.outer[0], beside.outer[1]) and torch.equal(alone.inner[0], beside.inner[1])
