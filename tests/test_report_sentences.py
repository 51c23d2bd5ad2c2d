"""The report's sentences say what their numbers say, in the good case and in the bad one."""

import pytest

from bayesreg.report import sentences
from bayesreg.report.from_posterior import rounded


def route(name, passed, same_point=False):
    return {"name": name, "passed": passed, "same_point": same_point}


def comparison(routes, wrong):
    return {"routes": routes, "wrong_lambda": wrong}


@pytest.mark.parametrize(
    ("finding", "passed", "words"),
    [
        (sentences.certified(True, 3e-12, 1e-8, 1e-9), True, ["is certified", "duality gap 3e-12, allowed 1e-08"]),
        (sentences.certified(True, 3e-31, 1e-8, 1e-9), True, ["duality gap below 1e-15, allowed 1e-08"]),
        (sentences.certified(False, 3e-5, 1e-8, 0.1), False, ["not certified", "3e-05", "standardize"]),
        (sentences.certified(True, None, 1e-8, 2e-15), True, ["KKT residual 2e-15"]),
        (sentences.certified(False, None, 1e-8, 0.25), False, ["KKT residual 0.2", "allowed 1e-08"]),
        (
            sentences.routes(comparison([route("a", True), route("b", True)], [route("2 lambda", False)])),
            True,
            ["All 2 routes", "catches half and twice"],
        ),
        (
            sentences.routes(comparison([route("a", True), route("SGD", False)], [route("2 lambda", False)])),
            False,
            ["1 of 2 routes", "SGD", "train for longer"],
        ),
        (
            sentences.routes(comparison([route("a", True)], [route("2 lambda", True)])),
            False,
            ["wrong lambda (2 lambda)", "proves nothing"],
        ),
        (sentences.chains("exact", 4000, 1.0, 3900.0, 0, []), True, ["4,000 independent draws by exact"]),
        (sentences.chains("exact", 4000, 1.0, 3900.0, 0, ["table"]), False, ["independent", "warned: table"]),
        (sentences.chains("svi", 4000, 1.0, 3900.0, 0, []), True, ["approximation", "whatever their number"]),
        (
            sentences.chains("gibbs", 12_800, 1.0021, 2345.6, 0, []),
            True,
            ["agree", "1.0021 (allowed 1.01)", "2,346 (needed 400)"],
        ),
        (
            sentences.chains("hmc", 6400, 1.0061, 2345.6, 0, [], many=True),
            True,
            ["agree", "the noise of short chains left out, is at most 1.0061"],
        ),
        (
            sentences.chains(
                "gibbs", 800, 1.001, 900.0, 0, ["sampling was interrupted: 4 chains of 200 draws are kept"]
            ),
            True,
            ["cut short", "4 chains of 200", "agrees"],
        ),
        (
            sentences.chains("nuts", 800, float("nan"), 12.0, 0, ["the ESS of x is 12"]),
            False,
            ["R-hat is unknown", "cannot be trusted"],
        ),
        (
            sentences.chains("nuts", 800, 1.31, 12.0, 7, ["R-hat of x is 1.31"]),
            False,
            ["cannot be trusted", "1.3100", "12 (needed 400)", "7 transitions diverged", "--draws"],
        ),
        (sentences.coverage(401, 442, 0.9), True, ["90% predictive intervals hold 90.7% of the 442", "as they should"]),
        (sentences.coverage(350, 442, 0.9), False, ["79.2%", "fewer than chance", "noise scale is too small"]),
        (sentences.coverage(441, 442, 0.9), False, ["99.8%", "more than chance", "held-out loss"]),
        (sentences.replicated({"mean": 0.4, "smallest": 0.02}), True, ["resemble", "mean, smallest"]),
        (sentences.replicated({"mean": 0.4, "smallest": 0.999}), False, ["differ", "in smallest:", "logarithm"]),
        (sentences.replicated({"largest": 0.0}), False, ["in largest:"]),
        (sentences.gaps(2e-16, 1e-10, 100), True, ["Each of the 100 fits", "gap below 1e-15"]),
        (sentences.gaps(2e-6, 1e-10, 100), False, ["Not every fit", "2e-06", "allowed 1e-10", "Standardize"]),
    ],
)
def test_a_finding_says_what_is_found_and_what_to_do(finding, passed, words):
    assert finding.passed is passed
    for word in words:
        assert word in finding.text.replace("−", "-"), (word, finding.text)
    assert finding.text.endswith(".") and "nan" not in finding.text


def test_as_many_rows_as_chance_allows_are_fine_and_one_more_is_not():
    # 3 standard deviations of a binomial number of 1,000 at 0.9: 28.46.
    assert [sentences.coverage(covered, 1000, 0.9).passed for covered in (871, 872, 928, 929)] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({"kind": "flat"}, "a flat prior"),
        ({"kind": "gaussian", "scale": 0.5}, "a Gaussian prior of scale 0.5"),
        ({"kind": "laplace", "scale": [0.1, 0.2]}, "a Laplace prior of scale one a feature"),
        ({"kind": "laplace", "scale": 0.1, "loc": 0.3}, "a Laplace prior of scale 0.1 around 0.3"),
        ({"kind": "laplace", "scale": {"distribution": "HalfNormal"}}, "a Laplace prior of a learned scale"),
        (
            {"kind": "gaussian", "scale": 2.0, "relative_to_noise": True},
            "a Gaussian prior of scale 2 times the noise scale",
        ),
        (
            {"kind": "elasticnet", "gaussian_scale": 0.5, "laplace_scale": 0.1},
            "an elastic net's prior of scales 0.5 (Gaussian) and 0.1 (Laplace)",
        ),
    ],
)
def test_priors_in_words(prior, words):
    assert sentences.prior_words(prior) == words


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ({"l2": 0.25, "l1": 0.0}, "lambda = 0.5 in torch-mse-mean"),
        ({"l2": 0.0, "l1": 0.0}, "lambda = 0"),
        ({"l2": 0.0, "l1": 0.1}, "lambda = 0.1 in mean-half-squared"),  # which that convention has no word for
        ({"l2": [0.1, 0.2], "l1": 0.0}, "one lambda a feature"),
        ({"l2": 0.25, "l1": 0.125}, "lambda = 0.25 (L2) and 0.125 (L1) in mean-half-squared"),
    ],
)
def test_lambda_in_words(strengths, words):
    assert sentences.lambda_words(strengths, "torch-mse-mean", {"l2": 2.0}) == words


def test_numbers_line_up_with_their_spread_and_have_a_true_minus():
    assert rounded(-0.104123, 0.0391) == "−0.104" and rounded(1234.56, 178.0) == "1,235"
    assert rounded(float("nan"), 1.0) == "–" and rounded(2.0, 0.0) == "2"
    assert sentences.number(-1.5e-7) == "−1.5e-07" and sentences.number(None) == "–"
