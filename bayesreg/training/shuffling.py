"""The random numbers of a training run: its start and the order of the rows in each epoch, from its seed alone."""

from __future__ import annotations

import torch


class Shuffling:
    """What a seed says: first d weights from N(0, 1), then one permutation of the rows an epoch.

    The start is drawn whether it is used or not, so that the batches depend on the seed alone: a run of its own and the
    same one among many see the same batches.

    Attributes:
        start: Weights from N(0, 1), (d,), float64.
    """

    def __init__(self, seed: int, num_rows: int, num_features: int, device: torch.device | None):
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._num_rows, self._device = num_rows, device
        self.start = torch.randn(num_features, generator=self._generator, dtype=torch.float64, device=device)

    def order(self) -> torch.Tensor:
        """Draw the order of the rows in the next epoch, (n,); its batches are consecutive."""
        return torch.randperm(self._num_rows, generator=self._generator, dtype=torch.int64, device=self._device)
