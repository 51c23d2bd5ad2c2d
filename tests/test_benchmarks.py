"""The benchmark's own logic, on figures and draws made up for it: gates, ratios, references, tables. No peer is run."""

import json

import numpy as np
import pytest
from arviz_stats.base import array_stats
from benchmarks import (
    contestants,
    gates,
    hard_designs,
    lasso_peers,
    measure,
    paths,
    picture,
    problems,
    references,
    render,
    render_paths,
    targets,
)
from benchmarks.__main__ import joined
from benchmarks.quadrature import gaussian_reference
from path_designs import design_of

import bayesreg as br

PARAMETERS = ["weights[0]", "intercept", "log noise_scale"]
MEAN, SD = np.array([1.0, -200.0, 0.03]), np.array([0.5, 3.0, 0.01])
EXACT = gates.Reference(MEAN, SD, np.zeros(3), np.zeros(3), "exact")


def draws_of(chains=4, length=3000, mean=MEAN, sd=SD, correlation=0.0, seed=0):
    """Chains of an autoregression with the given mean and deviation."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((length, chains, 3))
    for step in range(1, length if correlation else 0):
        values[step] = correlation * values[step - 1] + np.sqrt(1.0 - correlation**2) * values[step]
    return (mean + sd * values).swapaxes(0, 1)


def record(contestant, is_ours, b, problem="diabetes-laplace", why="", not_run=None, **figures):
    """What `measure.record` returns."""
    if not_run:
        return {"problem": problem, "contestant": contestant, "is_ours": is_ours, "not_run": not_run}
    verdict = gates.Verdict(why, [], False, 1.001, 0, 9000.0, 2.5, 0.011, 0.02, "exact").to_dict()
    found = {"a": 2 * b, "b": b, "c": b / 10, "b_from_moments": None, "seconds": 0.1, "import_seconds": 1.0}
    found |= {
        "commit": "abc",
        "compile_seconds": 0.0 if is_ours else 5.0,
        "info": {"chains": 4, "draws": 1000, "method": "rejection"},
    }
    return {
        "problem": problem, "contestant": contestant, "is_ours": is_ours, "not_run": None, "verdict": verdict,
    } | found | figures  # fmt: skip


# --- gates


def test_draws_of_the_reference_pass():
    verdict = gates.judge(draws_of(), 0, EXACT, PARAMETERS)
    assert verdict.passed, verdict.why
    assert verdict.ess > 10_000


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mean": MEAN + 0.06 * SD * [0, 0, 1]}, "mean of log noise_scale"),
        ({"sd": SD * [1, 0.94, 1]}, "sd of intercept off by"),
        ({"sd": SD * [1, 1.06, 1]}, "sd of intercept off by"),
        ({"correlation": 0.99}, "ESS of"),
    ],
)
def test_each_gate_says_what_is_wrong(change, why):
    verdict = gates.judge(draws_of(**change), 0, EXACT, PARAMETERS)
    assert not verdict.passed
    assert why in verdict.why


def test_divergences_and_chains_apart_fail():
    assert "2 divergences" in gates.judge(draws_of(), 2, EXACT, PARAMETERS).why
    apart = draws_of()
    apart[0] += 0.5 * SD
    assert "R-hat" in gates.judge(apart, 0, EXACT, PARAMETERS).why


def test_short_chains_that_stay_where_they_began_fail():
    # 256 chains of 100 draws, each about a place of its own: together they have the right mean and deviation.
    random = np.random.default_rng(1)
    places = random.standard_normal((256, 1, 3))
    stuck = MEAN + SD * (0.8 * places + 0.6 * random.standard_normal((256, 100, 3)))
    assert gates.largest_r_hat(stuck) > 1.01
    assert gates.largest_r_hat(draws_of(256, 100)) < 1.01
    # Chains that mix, but are too short for plain R-hat.
    short = draws_of(256, 100, correlation=0.5)
    assert float(array_stats.rhat(short[..., 0])) > 1.01 > gates.largest_r_hat(short)


def test_a_reference_of_long_runs_brings_its_own_error():
    off = MEAN + 0.06 * SD
    unsure = gates.Reference(off, SD, 0.02 * SD, np.zeros(3), "a long run")
    assert not gates.judge(draws_of(), 0, gates.Reference(off, SD, *np.zeros((2, 3)), "exact"), PARAMETERS).passed
    assert gates.judge(draws_of(), 0, unsure, PARAMETERS).passed


def test_few_draws_widen_the_gate_of_the_deviation_and_no_further():
    few = draws_of(length=250)
    assert gates.judge(few, 0, EXACT, PARAMETERS).sd_resolution > gates.LARGEST_SD_ERROR
    assert "sd of" in gates.judge(draws_of(length=250, sd=1.2 * SD), 0, EXACT, PARAMETERS).why


def test_a_second_look_compares_the_suspects_alone():
    off = draws_of(mean=MEAN + 0.06 * SD * [0, 0, 1])
    first = gates.judge(off, 0, EXACT, PARAMETERS)
    assert (first.suspects, first.only_suspects) == ([2], True)
    assert not gates.judge(off, 0, EXACT, PARAMETERS, [2]).passed
    assert gates.judge(off, 0, EXACT, PARAMETERS, [0, 1]).passed


def test_the_figure_of_merit_is_the_smaller_of_both_ess_of_the_worst_parameter():
    draws = draws_of(length=4000)
    ess, where = gates.smallest_ess(draws)
    assert ess == pytest.approx(min(np.min(one) for one in gates.effective_sizes(draws)))
    # Antithetic in x: its ESS is large, that of its square is small, and it is that which counts.
    draws[..., 1] = MEAN[1] + SD[1] * _antithetic(4, 4000)
    sizes = gates.effective_sizes(draws)
    assert sizes[0][1] > 2 * draws[..., 1].size > 20 * sizes[1][1]
    ess, where = gates.smallest_ess(draws)
    assert (where, ess) == (1, sizes[1][1])


def _antithetic(chains, length):
    random = np.random.default_rng(2)
    size = np.zeros((length, chains))
    for step in range(1, length):
        size[step] = 0.98 * size[step - 1] + np.sqrt(1 - 0.98**2) * random.standard_normal(chains)
    return (np.exp(0.5 * size) * (-1.0) ** np.arange(length)[:, None]).T


def test_what_does_not_move_has_no_effective_draw():
    draws = draws_of()
    draws[..., 1] = 3.0
    assert gates.smallest_ess(draws) == (0.0, 1)


# --- problems and references


def test_a_problem_packs_all_that_is_learned():
    problem = problems.PROBLEMS["diabetes-laplace-both"]
    draws = {"weights": np.ones((2, 3, 10)), "intercept": np.zeros((2, 3))}
    draws |= {"noise_scale": np.full((2, 3), np.e), "prior_scale": np.full((2, 3), np.e**2)}
    matrix = problem.matrix(draws)
    assert matrix.shape == (2, 3, len(problem.parameters)) == (2, 3, 13)
    assert matrix[0, 0, -2:] == pytest.approx([1.0, 2.0])
    assert problem.parameters[-2:] == ["log noise_scale", "log prior_scale"]
    assert problems.PROBLEMS["diabetes-laplace-known"].parameters[-1] == "intercept"


def test_quadrature_of_one_feature_is_the_sum_over_a_grid():
    problem = problems.Problem("tiny", "442 x 10 (diabetes)", "gaussian", 0.7)
    features, target = np.array([[0.3], [-1.2], [2.0], [0.4]]), np.array([1.0, -0.5, 2.5, 0.2])
    found = gaussian_reference(problem, features, target)

    # The intercept integrated out by hand, and the rest summed over a fine grid.
    log_noise, weight = np.meshgrid(np.linspace(-6, 3, 1501), np.linspace(-4, 5, 1501), indexing="ij")
    departure, centred = target - target.mean(), features[:, 0] - features[:, 0].mean()
    squares = ((departure - weight[..., None] * centred) ** 2).sum(-1)
    log_density = -3 * log_noise - 0.5 * squares * np.exp(-2 * log_noise) - 0.5 * weight**2 / 0.7**2
    density = np.exp(log_density + log_noise - 0.5 * np.exp(2 * log_noise))
    density /= density.sum()
    for index, values in ((0, weight), (2, log_noise)):
        mean = (values * density).sum()
        assert found.mean[index] == pytest.approx(mean, rel=1e-6)
        assert found.sd[index] == pytest.approx(np.sqrt(((values - mean) ** 2 * density).sum()), rel=1e-6)
    variance = (np.exp(2 * log_noise) * density).sum() / 4 + features.mean() ** 2 * found.sd[0] ** 2
    assert found.sd[1] == pytest.approx(np.sqrt(variance), rel=1e-6)
    assert found.mean[1] == pytest.approx(target.mean() - features.mean() * found.mean[0], rel=1e-6)


def test_no_engine_is_judged_by_its_own_run():
    found = {"gibbs, a long run": EXACT, "NumPyro NUTS, a long run": EXACT}
    by_name = {one.name: one for one in contestants.contestants(problems.PROBLEMS["diabetes-laplace"])}
    assert references.not_its_own(found, by_name["auto"]).startswith("NumPyro")
    assert references.not_its_own(found, by_name["gibbs"]).startswith("NumPyro")
    for peer in ("NumPyro NUTS, as written, 4 chains", "nutpie, as written, 4 chains"):
        assert references.not_its_own(found, by_name[peer]).startswith("gibbs")
    with pytest.raises(ValueError, match="no reference for gibbs"):
        references.not_its_own({"gibbs, a long run": EXACT}, by_name["gibbs"])


def test_stored_references_have_every_parameter():
    for path in references.FOLDER.glob("*.json"):
        problem = problems.PROBLEMS[path.stem]
        for table in json.loads(path.read_text()).values():
            assert {len(table[key]) for key in ("mean", "sd", "mean_error", "sd_error")} == {len(problem.parameters)}
            assert table["r_hat"] < gates.LARGEST_R_HAT


def test_problems_are_chosen_by_name_or_beginning():
    assert [one.name for one in contestants.chosen_problems(["diabetes-laplace"], False)] == ["diabetes-laplace"]
    assert len(contestants.chosen_problems(["20x200"], False)) == 3
    assert len(contestants.chosen_problems(None, False)) == len(problems.PROBLEMS)
    with pytest.raises(ValueError, match="nothing"):
        contestants.chosen_problems(["nothing"], False)


# --- figures


def test_figures_are_medians_of_the_runs_after_the_first():
    runs = [{"ess": 100.0, "seconds": seconds, "warmup_seconds": 0.5, "info": {}} for seconds in (9.0, 1.0, 2.0, 4.0)]
    first = runs[0] | {"import_seconds": 3.0, "compile_seconds": 11.0}
    found = measure.figures(first, runs, [])
    assert found["b"] == 50.0
    assert found["a"] == pytest.approx(100 / 1.5)
    assert found["c"] == 100 / (11 + 9)
    unknown = [run | {"warmup_seconds": None} for run in runs]
    assert measure.figures(first, unknown, [])["a"] is None
    assert measure.figures(first, runs[:1], [])["b"] == pytest.approx(100 / 9)


def test_a_ratio_is_to_the_best_peer_that_passed():
    records = [
        record("auto", True, 1000.0),
        record("NumPyro NUTS, as written, 4 chains", False, 50.0),
        record("NumPyro NUTS, on moments, 256 chains", False, 400.0, why="R-hat 1.2"),
        record("NumPyro NUTS, on moments, 1,024 chains", False, 900.0),
        record("nutpie, as written, 4 chains", False, 100.0),
        record("Pyro NUTS, as written, 2 chains", False, 500.0),
    ]
    target = next(one for one in targets.TARGETS if one.problem == "diabetes-laplace" and one.letter == "b")
    found = targets.reached(target, records)
    assert found["ratio"] == 10.0
    assert found["peer"].startswith("nutpie")
    records[0] = record("auto", True, 1000.0, why="mean of x off by 5 MCSE")
    assert targets.reached(target, records)["ratio"] is None
    assert targets.reached(target, records[1:2]) is None
    only_failed = [record("auto", True, 1000.0), records[2]]
    found = targets.reached(target, only_failed)
    assert (found["ratio"], found["why"], found["ratio_to_failed"]) == (None, "no peer passed the gates", 2.5)


def test_the_readme_s_table_has_the_best_peer_or_says_that_none_passed():
    records = [
        record("auto", True, 1000.0),
        record("hmc", True, 9000.0),
        record("nutpie, as written, 4 chains", False, 100.0, c=4.0),
        record("NumPyro NUTS, as written, 4 chains", False, 50.0, c=5.0),
        record("auto", True, 700.0, problem="1e5x50-laplace"),
        record("nutpie, as written, 4 chains", False, 100.0, problem="1e5x50-laplace", why="R-hat 1.2"),
        record("auto", True, 700.0, problem="diabetes-laplace-known"),
    ]
    assert render.short(records).splitlines()[2:] == [
        "| 442 x 10 (diabetes) | Laplace 0.25 | rejection | 1,000 | 100 (nutpie, as written, 4 chains) | 10 x | 20 x |",
        "| 1e5 x 50 | Laplace 0.25 | rejection | 700 | no peer passed the gates: the fastest that failed, nutpie, as "
        "written, 4 chains, made 100 |  |  |",
    ]


MACHINE = {
    "cpu": "A Processor", "cores": 2, "memory_gib": 24, "system": "Linux", "date": "2026-01-01", "commit": "abc",
    "load": 0.1, "versions": {"torch": "2.13", "jax": None}, "device": "cpu",
}  # fmt: skip


def test_draws_that_fail_a_gate_have_no_speed_in_the_table_or_the_picture(tmp_path):
    records = [
        record("auto", True, 123_456.0),
        record("hmc", True, 77_777.0, why="R-hat 1.200"),
        record("NumPyro NUTS, as written, 4 chains", False, 50.0, not_run="a gradient takes 9 s"),
        record("nutpie, as written, 4 chains", False, 100.0),
    ]
    found = {"machine": MACHINE, "records": records}
    page = render.table(found, "picture.png")
    assert "123,000" in page
    assert "77,8" not in page
    assert "gate failed: R-hat 1.200" in page
    assert "not run: a gradient takes 9 s" in page
    assert "auto (rejection), 4 x 1,000 draws" in page
    assert "1,200 x" in page  # 123,456 / 100
    assert "torch 2.13" in page
    assert "jax" not in page.split("\n\n")[1]
    picture.draw(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_a_ratio_below_its_floor_is_marked():
    records = [record("auto", True, 200.0), record("nutpie, as written, 4 chains", False, 100.0)]
    records[0]["runs"] = [{"seconds": 0.05}]
    page = render.table({"machine": MACHINE, "records": records}, "p.png")
    lines = [line for line in page.splitlines() if "| b | 8 x |" in line]
    assert len(lines) == 1
    assert "**2.0 x** (below)" in lines[0]
    (why,) = (line for line in page.splitlines() if line.startswith("- diabetes-laplace, auto, b: 8 x"))
    assert "would take 800 ESS/s" in why and "4,000 draws take 50 ms in a first call" in why
    records[0]["b"] = records[0]["c"] = 1e6
    assert "What is below" not in render.table({"machine": MACHINE, "records": records}, "p.png")


def test_a_run_of_one_problem_takes_the_place_of_that_one_alone():
    stored = {"records": [record("auto", True, 1.0), record("auto", True, 2.0, problem="1e5x50-laplace")], "svi": [1]}
    found = {"records": [record("auto", True, 3.0), record("nuts", True, 4.0)], "machine": MACHINE}
    both = joined(stored, found)
    assert [(one["problem"], one["b"]) for one in both["records"]] == [
        ("diabetes-laplace", 3.0),
        ("diabetes-laplace", 4.0),
        ("1e5x50-laplace", 2.0),
    ]
    assert both["svi"] == [1] and both["machine"] == MACHINE
    assert joined({}, found)["records"] == found["records"]


class _Stub:
    """A process whose answers are known."""

    def __init__(self, seconds, ess, wrong=0):
        self.contestant = contestants.OURS[0]
        self.first = {"seconds": seconds, "ess": ess, "warmup_seconds": None, "info": {}, "import_seconds": 1.0}
        self.first["compile_seconds"] = 0.0
        self.runs, self.moments, self.not_run, self.asked, self.wrong = [self.first], [], None, [], wrong
        self.rounds = 0

    def do(self, what, *arguments):
        self.asked.append(what)
        if what == "run":
            return self.first
        why = "mean of weights[3] off by 4.1 MCSE" if self.wrong else ""
        self.wrong -= 1
        return gates.Verdict(why, [3] if why else [], True, 1.0, 0, 9e3, 4.1, 0.0, 0.0, "exact").to_dict()

    wants_more, turn = measure.Process.wants_more, measure.Process.turn


def test_a_parameter_that_is_off_is_looked_at_once_more():
    problem = problems.PROBLEMS["diabetes-gaussian"]
    stub = _Stub(1.0, 1e4, wrong=1)
    found = measure.record(problem, stub, seed=3)
    assert stub.asked == ["judge", "run", "judge"]
    assert measure.is_shown(found)
    assert found["verdict"]["first_look"].startswith("mean of weights[3]")
    assert not measure.is_shown(measure.record(problem, _Stub(1.0, 1e4, wrong=2), seed=3))


def test_rounds_go_on_until_the_gates_can_judge_or_the_time_is_spent():
    assert _Stub(0.1, 1e5).wants_more(3)  # the medians want more runs
    enough = _Stub(0.1, 1e5)
    enough.rounds = 3
    assert not enough.wants_more(3)
    few = _Stub(0.1, 1e3)
    few.rounds = 3
    assert few.wants_more(3)
    few.rounds = measure.MOST_ROUNDS
    assert not few.wants_more(3)
    assert not _Stub(measure.SECONDS + 1, 1e2).wants_more(3)


def test_a_turn_is_as_many_runs_as_a_quarter_of_a_second_takes():
    assert [len(_Stub(seconds, 1e3).turn("run", 1)) for seconds in (1.0, 0.1, 0.001)] == [1, 3, 10]


def test_a_peer_without_the_gap_is_shown_with_its_gap_and_never_as_the_best():
    peers = {
        "lasso_path": {"tolerance": 1e-10, "why": "", "seconds": 0.004},
        "celer": {"tolerance": None, "why": "gap 2e-06"},
    }
    row = {"problem": "442x10", "share": 0.01, "peers": peers, "gap": 3e-16, "seconds": 0.001}
    nobody = row | {"problem": "20x200", "peers": {"celer": peers["celer"]}}
    lines = render_paths.page({"lasso": [row, nobody]}).splitlines()
    first, second = (next(line for line in lines if line.startswith(f"| {name}")) for name in ("442x10", "20x200"))
    assert first == "| 442x10, to lambda_max / 100 | 3e-16 | 1 ms | 4 ms | gap 2e-06 | 4.0 x |"
    assert second.endswith("| - | gap 2e-06 | no peer has the gap |")


def test_a_design_counts_for_those_whose_every_fit_has_the_gap(monkeypatch):
    def nearly(features, target, lambdas, *_):
        exact = br.path(br.RegressionData(features, target), "l1", lambdas).weights.numpy()
        last_off = exact + 1e-3 * (lambdas == lambdas[-1])[:, None]
        return {
            "exact": lambda tolerance: exact,
            "last off": lambda tolerance: last_off,
            "none": lambda tolerance: 1 / 0,
            "not installed": lambda tolerance: __import__("no_such_library"),
        }

    monkeypatch.setattr(hard_designs, "lasso_peers", nearly)
    kinds = [hard_designs.of_kind(kind, design_of, 3) for kind in ("ties", "nearly equal")]
    assert [row["certified"] for row in kinds] == [{"ours": 3, "exact": 3, "last off": 0, "none": 0}] * 2
    lines = render_paths.hard_designs({"kinds": kinds, "commit": "abc"}).splitlines()
    assert lines[-2:] == ["| nearly equal | 3 | 3 | 3 | 0 | 0 |", "| all | 6 | 6 | 6 | 0 | 0 |"]
    assert (
        "fits of ours have that gap on 6; at their tightest tolerances and at most 10,000 iterations (2,000 "
        "of celer and skglm) `exact`'s on 6, `last off`'s on 0" in render_paths.short_of_hard_designs({"kinds": kinds})
    )


@pytest.mark.parametrize(("n", "d"), [(20, 30), (40, 5), (20, 20)])
def test_bare_ridge_has_the_weights_and_variances_of_the_path(n, d):
    features, target = paths.rows_of("any", n, d, 0.5)
    lambdas = np.array([1.0, 0.01])
    weights, variances = paths.bare_ridge(features, target, n * lambdas)
    found = br.path(br.RegressionData(features, target), "l2", lambdas, noise_scale=1.0)
    assert weights == pytest.approx(found.weights.numpy(), rel=1e-9, abs=1e-12)
    within = n * lambdas[:, None] * found.covariance_diagonal.numpy()
    if n <= d:  # what lies outside the span is as without data
        values, right = np.linalg.svd(features, full_matrices=False)[1:]
        within -= 1.0 - np.square(right[values > 1e-8]).sum(axis=0)
    assert n * lambdas[:, None] * variances == pytest.approx(within, rel=1e-9, abs=1e-12)


def test_the_gap_of_the_benchmark_is_the_difference_of_the_objectives():
    features, target = paths.rows_of("20x30", 20, 30, 0.5)
    weights = np.random.default_rng(0).standard_normal((2, 30))
    lambdas = np.array([0.3, 0.1])
    found = lasso_peers.largest_gap(features, target, weights, lambdas)
    expected = []
    for w, strength in zip(weights, lambdas, strict=True):
        residual = target - features @ w
        dual = residual / 20 * min(1.0, strength * 20 / np.abs(features.T @ residual).max())
        primal = residual @ residual / 40 + strength * np.abs(w).sum()
        expected.append((primal - target @ dual + 10 * dual @ dual) / (target @ target / 40))
    assert found == pytest.approx(max(expected), rel=1e-12)


def test_a_peer_s_tolerance_is_the_loosest_that_does():
    def peer(tolerance):
        return tolerance

    assert lasso_peers.tolerance_that_does(peer, lambda tolerance: tolerance) == (1e-10, "")
    assert lasso_peers.tolerance_that_does(peer, lambda tolerance: 1e-3) == (None, "gap 1e-03")

    def fails(tolerance):
        raise ValueError("no\nway")

    assert lasso_peers.tolerance_that_does(fails, lambda tolerance: 0.0) == (None, "ValueError: no")
