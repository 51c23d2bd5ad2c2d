"""Who runs: the names of engines and peers, their settings on each problem, and the module that each lives in."""

from __future__ import annotations

from dataclasses import dataclass, field

from .problems import PROBLEMS, Problem

# Seconds that a peer's whole run may take by its own estimate from the cost of one gradient; beyond, it is not run, and
# the table says so.
LONGEST_RUN = 180.0


@dataclass(frozen=True)
class Contestant:
    """One engine or peer with its settings.

    Attributes:
        name: as in the table and on the command line.
        module: of `tests.benchmarks`; has `imports()` and `prepare(problem, rows, settings, device)`.
        settings: passed on; chains, draws and tune where they are not the engine's own defaults.
        is_ours: engine of the package, or peer.
    """

    name: str
    module: str
    settings: dict = field(default_factory=dict)
    is_ours: bool = False


def _ours(method: str, **settings) -> Contestant:
    return Contestant(method, "engines", {"method": method} | settings, is_ours=True)


def _numpyro(potential: str, chains: int, draws: int, tune: int, word: str = "") -> Contestant:
    name = f"NumPyro NUTS, {word or potential}, {chains:,} chains"
    return Contestant(name, "peers_numpyro", {"potential": potential, "chains": chains, "draws": draws, "tune": tune})


def _nutpie(draws: int = 1000, tune: int = 400) -> Contestant:
    return Contestant("nutpie, as written, 4 chains", "peers_pymc", {"chains": 4, "draws": draws, "tune": tune})


def _pyro(draws: int = 1000, tune: int = 300) -> Contestant:
    return Contestant("Pyro NUTS, as written, 2 chains", "peers_pyro", {"chains": 2, "draws": draws, "tune": tune})


OURS = [_ours("auto"), _ours("exact"), _ours("rejection"), _ours("hmc"), _ours("nuts"), _ours("gibbs")]
MANY_CHAINS = _ours("nuts", chains=1024, draws=200, tune=500)
MANY_CHAINS = Contestant("nuts, 1,024 chains", MANY_CHAINS.module, MANY_CHAINS.settings, is_ours=True)
# As many draws as NumPyro's 256 chains make: what is paid once is spread over as much.
MANY_DRAWS = Contestant("auto, 51,200 draws", "engines", {"method": "auto", "draws": 12_800}, is_ours=True)


def contestants(problem: Problem) -> list[Contestant]:
    """Return who runs on a problem, ours first.

    The chains are swept on the diabetes data with the noise learned; elsewhere NumPyro runs with 4 chains, on the model
    as written and on the moments. Every peer has a dense metric where it offers one.

    Args:
        problem: The problem.

    Returns:
        The contestants.
    """
    rows, features = problem.shape
    wrong = ("exact",) if problem.prior == "laplace" else ("rejection", "gibbs")
    ours = [one for one in OURS if one.name not in wrong]
    if problem.name in ("diabetes-gaussian", "diabetes-laplace"):
        sweep = [(4, 1000, 500), (64, 300, 300), (256, 200, 300)]
        peers = [_numpyro(potential, *sizes) for potential in ("as written", "on moments") for sizes in sweep]
        peers.append(_nutpie())
        if problem.prior == "laplace":
            return [*ours, MANY_DRAWS, MANY_CHAINS, *peers, _numpyro("on moments", 1024, 200, 300), _pyro()]
        return [*ours, MANY_DRAWS, *peers]
    if problem.design.startswith("442"):
        return [ours[0], _numpyro("as written", 4, 1000, 500), _numpyro("on moments", 64, 300, 300), _nutpie()]
    if rows >= 100_000:
        ours = [one for one in ours if not (features >= 1000 and one.name == "gibbs")]
        return [*ours, _numpyro("as written", 4, 300, 300), _numpyro("on moments", 4, 500, 500), _nutpie(300, 300)]
    return [*ours, _numpyro("as written", 4, 1000, 1000), _numpyro("on moments", 4, 1000, 1000), _nutpie(1000, 1000)]


QUICK = ["diabetes-gaussian", "diabetes-laplace"]


def chosen_problems(names: list[str] | None, quick: bool) -> list[Problem]:
    """Return the problems that the command line names; all of them where it names none.

    Args:
        names: Names, or the beginnings of names.
        quick: Only the two that need no more than a minute or two.

    Returns:
        The problems.

    Raises:
        ValueError: A name that no problem begins with.
    """
    names = names or (QUICK if quick else list(PROBLEMS))
    for name in names:
        if not any(known.startswith(name) for known in PROBLEMS):
            raise ValueError(f"--problems {name!r} is none of {', '.join(PROBLEMS)}")
    exact = [name for name in names if name in PROBLEMS]
    loose = tuple(name for name in names if name not in PROBLEMS)
    return [problem for known, problem in PROBLEMS.items() if known in exact or (loose and known.startswith(loose))]
