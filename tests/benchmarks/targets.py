"""The ratios that are to be reached, each of figures of one run of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .measure import is_shown


def _dense(name: str) -> bool:
    """NumPyro with 4, 64 or 256 chains, on the model or on the moments, and nutpie."""
    return name.startswith("nutpie") or (name.startswith("NumPyro") and not name.endswith("1,024 chains"))


def _written(name: str) -> bool:
    return name.startswith(("nutpie", "NumPyro NUTS, as written"))


def _pyro(name: str) -> bool:
    return name.startswith("Pyro")


def _same_potential(name: str) -> bool:
    return name == "NumPyro NUTS, on moments, 1,024 chains"


@dataclass(frozen=True)
class Target:
    """Figure `letter` of a contestant of ours over the best of the peers' that passed the gates: at least `floor`."""

    problem: str
    ours: str
    letter: str
    floor: float
    against: str
    peers: Callable[[str], bool]


_BEST = "the best of NumPyro and nutpie"
_AS_WRITTEN = "NumPyro and nutpie as written"
TARGETS = (
    Target("diabetes-gaussian", "auto", "b", 25, _BEST, _dense),
    Target("diabetes-gaussian", "auto, 51,200 draws", "b", 25, _BEST, _dense),
    Target("diabetes-gaussian", "auto", "c", 500, _BEST, _dense),
    Target("diabetes-gaussian", "auto, 51,200 draws", "c", 500, _BEST, _dense),
    Target("diabetes-laplace", "auto", "b", 8, _BEST, _dense),
    Target("diabetes-laplace", "auto, 51,200 draws", "b", 8, _BEST, _dense),
    Target("diabetes-laplace", "auto", "c", 250, _BEST, _dense),
    Target("diabetes-laplace", "auto, 51,200 draws", "c", 250, _BEST, _dense),
    Target("diabetes-laplace", "auto", "c", 10_000, "Pyro as written", _pyro),
    Target("diabetes-laplace", "nuts, 1,024 chains", "b", 3, "NumPyro, 1,024 chains", _same_potential),
    Target("1e5x50-laplace", "auto", "b", 3000, _AS_WRITTEN, _written),
    Target("1e5x50-laplace", "auto", "c", 3000, _AS_WRITTEN, _written),
    Target("20x200-laplace-0.007", "auto", "b", 60, _BEST, _dense),
    Target("20x200-laplace-0.007", "auto", "c", 200, _BEST, _dense),
    Target("20x200-laplace-0.25", "auto", "b", 300, _BEST, _dense),
    Target("20x200-laplace-0.25", "auto", "c", 600, _BEST, _dense),
    Target("100x500-laplace", "auto", "b", 12, _BEST, _dense),
    Target("100x500-laplace", "auto", "c", 20, _BEST, _dense),
)


def reached(target: Target, records: list[dict]) -> dict | None:
    """Return a target's ratio and what it is of, or None where the problem was not measured.

    Args:
        target: The target.
        records: Of all problems.

    Returns:
        As `compared`.
    """
    here = [record for record in records if record["problem"] == target.problem]
    ours = next((record for record in here if record["contestant"] == target.ours), None)
    peers = [record for record in here if not record["is_ours"] and target.peers(record["contestant"])]
    return compared(ours, peers, target.letter) if ours is not None and peers else None


def compared(ours: dict, peers: list[dict], letter: str) -> dict:
    """Compare a figure with the best of the peers' that passed the gates.

    Args:
        ours: A record of ours.
        peers: Records of peers.
        letter: "a", "b" or "c".

    Returns:
        ``ratio``, ``ours``, ``theirs`` and ``peer``. Where no peer has passed, ``ratio`` is None with ``why``, and the
        others are of the best of those that ran and failed, with ``ratio_to_failed``.
    """
    if not is_shown(ours):
        return {"ratio": None, "why": "ours has no figure"}
    shown = [record for record in peers if is_shown(record)]
    ran = shown or [record for record in peers if not record["not_run"]]
    if not ran:
        return {"ratio": None, "why": "no peer ran", "ours": ours[letter]}
    best = max(ran, key=lambda record: record[letter])
    ratio, found = (
        ours[letter] / best[letter],
        {"ours": ours[letter], "theirs": best[letter], "peer": best["contestant"]},
    )
    if shown:
        return found | {"ratio": ratio}
    return found | {"ratio": None, "why": "no peer passed the gates", "ratio_to_failed": ratio}
