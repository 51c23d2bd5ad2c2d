"""A target with a known answer: an asymmetric, correlated Gaussian with known mean, covariance and normaliser."""

import math

import torch


class GaussianTarget:
    """exp(log_density(x)) = exp(log_normaliser) Normal(x; mean, covariance), seen as weights and an intercept.

    What an engine is told is off on purpose: the start is up to two standard deviations away from the mean, and the
    curvature is wrong by factors of up to two, so that an engine has work to do. It counts the points it is asked for.
    """

    log_normaliser = -7.25

    def __init__(self, device="cpu", units=1.0):
        on = {"dtype": torch.float64, "device": torch.device(device)}
        self.dtype, self.device = on["dtype"], on["device"]
        scales = torch.tensor([0.2, 1.0, 5.0, 0.03], **on) * units
        factor = torch.tensor([[1, 0, 0, 0], [0.8, 0.6, 0, 0], [-0.3, 0.5, 0.8, 0], [0.1, -0.4, 0.2, 0.9]], **on)
        root = scales[:, None] * factor / factor.norm(dim=1, keepdim=True)
        self.mean = torch.tensor([1.0, -2.0, 30.0, 0.5], **on) * units
        self.covariance = root @ root.T
        self.precision = torch.linalg.inv(self.covariance)
        self.sd = self.covariance.diagonal().sqrt()
        self.num_parameters = 4
        self.calls = 0

    def log_density_and_gradient(self, points):
        self.calls += 1
        departure = points - self.mean
        gradient = -departure @ self.precision
        logdet = torch.logdet(self.covariance) + self.num_parameters * math.log(2 * math.pi)
        return self.log_normaliser + 0.5 * (departure * gradient).sum(-1) - 0.5 * logdet, gradient

    def log_density(self, points):
        return self.log_density_and_gradient(points)[0]

    def curvature(self, point):
        distortion = torch.tensor([0.7, 1.4, 1.0, 0.8], dtype=self.dtype, device=self.device)
        return distortion[:, None] * self.precision * distortion

    def start(self):
        return self.mean + self.sd * torch.tensor([2.0, -1.0, 0.5, 1.5], dtype=self.dtype, device=self.device)

    def starts(self):
        return self.start().unsqueeze(0)

    def constrain(self, points):
        return {"weights": points[..., :3], "intercept": points[..., 3]}

    def unconstrain(self, draws):
        return torch.cat([draws["weights"], draws["intercept"].unsqueeze(-1)], dim=-1)
