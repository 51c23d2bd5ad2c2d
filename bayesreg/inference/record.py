"""Draws as far as they are made, so that an interrupt leaves those that there are.

An engine writes into a `Record`, and makes its draws under `kept_if_interrupted`. Where a `KeyboardInterrupt` ends them
early, its result goes on as `Interrupted`, which is a `KeyboardInterrupt` still: whoever does not ask for the draws is
interrupted as by any other, and only `bayesreg.sample` asks.

Chains that run at once are about as far as each other; of chains one after the other some are whole and some not
begun. What is kept has equally many draws of each chain and as many in all as there can be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from bayesreg.inference.engine import EngineResult

# Below this nothing can be said of a chain, not even by its effective sample size.
FEWEST_DRAWS = 4


class Interrupted(KeyboardInterrupt):
    """An interrupt that came when draws worth keeping were made.

    Attributes:
        result: The draws made until then.
    """

    def __init__(self, result: EngineResult):
        super().__init__("interrupted")
        self.result = result


class Record:
    """Draws of some chains, ``(chains, draws, ...)`` by name; the first ``made`` of them are there.

    Args:
        chains: Number of chains.
        draws: Draws a chain that are asked for.
        device: Where to keep them; None: where they come from.

    Example:
        >>> record = Record(chains=2, draws=3)
        >>> record.write({"lp": torch.zeros((2, 1), dtype=torch.float64, device="cpu")})
        >>> record.made, record.arrays["lp"].shape
        (1, torch.Size([2, 3]))
    """

    def __init__(self, chains: int, draws: int, device: torch.device | None = None):
        self.chains, self.draws, self.made = chains, draws, 0
        self.arrays: dict[str, torch.Tensor] = {}
        self._device = device

    def write(self, values: Mapping[str, torch.Tensor], size: int | None = None) -> None:
        """Add draws.

        Args:
            values: ``(chains, block, ...)`` by name.
            size: How many of the block's draws; None: all.
        """
        for name, block in values.items():
            if name not in self.arrays:
                shape = (self.chains, self.draws, *block.shape[2:])
                self.arrays[name] = block.new_empty(shape, device=self._device or block.device)
            size = block.shape[1] if size is None else size
            self.arrays[name][:, self.made : self.made + size] = block[:, :size]
        self.made += size  # last: of draws that an interrupt met here nothing counts


class Making:
    """What became of a block under `kept_if_interrupted`.

    Attributes:
        interrupted: Whether an interrupt ended it.
    """

    interrupted = False


@contextmanager
def kept_if_interrupted(records: Collection[Record]) -> Iterator[Making]:
    """Let an interrupt end a block, where draws worth keeping are made; otherwise it goes on.

    Args:
        records: What the block writes into.

    Yields:
        What became of the block, once it has ended.

    Raises:
        KeyboardInterrupt: An interrupt came when there were too few draws.
    """
    making = Making()
    try:
        yield making
    except KeyboardInterrupt:
        if most_draws([record.made for record in records for _ in range(record.chains)]) < FEWEST_DRAWS:
            raise
        making.interrupted = True


def most_draws(made: Sequence[int]) -> int:
    """Return how many draws a chain to keep, so that they are the most in all; chains with fewer are left out.

    Args:
        made: Draws of each chain.

    Returns:
        The number; 0 where there are none.

    Example:
        >>> most_draws([100, 99, 99, 98]), most_draws([1000, 1000, 3, 0])
        (98, 1000)
    """
    return max(set(made), key=lambda least: (least * sum(count >= least for count in made), -least), default=0)


def joined(records: Sequence[Record]) -> dict[str, torch.Tensor]:
    """Return the draws of all records, ``(chains, draws, ...)`` by name: equally many of each chain that is kept."""
    draws = most_draws([record.made for record in records for _ in range(record.chains)])
    kept = [record.arrays for record in records if record.made >= draws]
    if len(kept) == 1:
        return {name: values[:, :draws] for name, values in kept[0].items()}
    return {name: torch.cat([arrays[name][:, :draws] for arrays in kept]) for name in kept[0]}


def finished(making: Making, result: EngineResult) -> EngineResult:
    """Return the result of an engine, or let the interrupt go on with it.

    Args:
        making: How its draws were made.
        result: The result.

    Returns:
        The result.

    Raises:
        Interrupted: An interrupt ended the draws early.
    """
    if making.interrupted:
        raise Interrupted(result)
    return result
