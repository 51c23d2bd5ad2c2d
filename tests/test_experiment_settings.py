"""The settings of a run: every key checked, the same in TOML and on the command line."""

import tomllib
from dataclasses import fields

import numpy as np
import pytest
from fresh_process import modules_after

from bayesreg.experiment.settings import METHODS, RunSettings, parse_scale, read_toml

GIVEN = {"data": "houses.csv", "target": "price", "scale": 0.5}


def settings(**changes):
    return RunSettings.from_mapping({**GIVEN, **changes})


def test_defaults():
    found = settings()
    assert (found.prior, found.standardize, found.intercept, found.method, found.seed) == (
        "gaussian",
        True,
        True,
        "auto",
        0,
    )
    assert found.noise_scale == {"distribution": "HalfNormal", "scale": 1.0}
    assert found.draws is None and "draws" not in found.to_dict()


@pytest.mark.parametrize(
    "value", [0, 0.0, -1.0, float("nan"), float("inf"), "0.5", True, [], [0.5, 0.0], [0.5, "a"], {"scale": 1.0}]
)
def test_a_bad_prior_scale_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^scale must be a positive finite number, a list of them.*HalfNormal"):
        settings(scale=value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), [0.5], [0.5, 0.5], "x", False])
def test_a_bad_noise_scale_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^noise_scale must be a positive finite number or a distribution"):
        settings(noise_scale=value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draws": 0}, r"draws must be a whole number of at least 1, got 0"),
        ({"draws": 10.5}, r"draws must be a whole number of at least 1, got 10.5"),
        ({"draws": True}, r"draws must be"),
        ({"tune": -1}, r"tune must be a whole number of at least 0, got -1"),
        ({"chains": 0}, r"chains must be a whole number of at least 1, got 0"),
        ({"seed": -3}, r"seed must be a whole number from 0 to 9223372036854775807, got -3"),
        ({"seed": 2**63}, r"seed must be a whole number from 0 to 9223372036854775807, got 9223372036854775808"),
        ({"seed": None}, r"seed must be a whole number"),
        ({"prior": "laplce"}, r"prior must be one of laplace, .*got 'laplce'"),
        ({"method": "gibs"}, r"method must be one of gibbs, .*auto.*got 'gibs'"),
        ({"device": "gpu"}, r"device must be auto, cpu, cuda or cuda:INDEX, got 'gpu'"),
        ({"standardize": 1}, r"standardize must be true or false, got 1"),
        ({"intercept": "no"}, r"intercept must be true or false, got 'no'"),
        ({"target": None}, r"target must be the name of the column to predict"),
        ({"target": 3}, r"target must be a text that is not empty, got 3"),
        ({"data": " "}, r"data must be a text"),
        ({"data": "diabetes"}, r"target must be left out.*got 'price'"),
        ({"scale": None}, r"scale must be given.*gaussian prior, such as 0.5"),
        ({"prior": "flat"}, r"scale must be left out: a flat prior has none, got 0.5"),
        ({"prior": "elasticnet"}, r"scale must be left out: an elasticnet prior has gaussian_scale and laplace_scale"),
        (
            {"prior": "elasticnet", "scale": None, "laplace_scale": 1.0},
            r"gaussian_scale must be given.*elasticnet prior",
        ),
        ({"laplace_scale": 1.0}, r"laplace_scale must be left out: a gaussian prior has scale, got 1.0"),
        (
            {
                "prior": "elasticnet",
                "scale": None,
                "gaussian_scale": {"distribution": "HalfNormal", "scale": 1.0},
                "laplace_scale": 1.0,
            },
            r"gaussian_scale must be a positive finite number, a list of them \(one a feature\), got",
        ),
        ({"prior": "flat", "scale": None, "relative_to_noise": True}, r"relative_to_noise must be left out"),
        ({"prior": "flat", "scale": None, "loc": 1.0}, r"loc must be left out"),
        ({"loc": float("nan")}, r"loc must be a finite number or a list"),
        ({"standardize": False}, r"noise_scale must be given where the data are not standardized"),
        ({"noise_scal": 1.0}, r"unknown key 'noise_scal'; accepted, the closest first: noise_scale, "),
    ],
)
def test_each_bad_setting_is_named_with_what_is_accepted(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_the_methods_are_those_that_sample_knows():
    from bayesreg.sampling import METHODS as ENGINES

    assert set(METHODS) == {"auto", *ENGINES}


def test_missing_data_is_said():
    with pytest.raises(ValueError, match="data is missing; give a CSV or Parquet file"):
        RunSettings.from_mapping({"prior": "flat"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.25", 0.25),
        (" 1e-3 ", 1e-3),
        ("-2", -2.0),
        ("0.1,0.2, .3", (0.1, 0.2, 0.3)),
        ("HalfNormal(1.0)", {"distribution": "HalfNormal", "scale": 1.0}),
        (" LogNormal ( -1 , scale = 2e0 ) ", {"distribution": "LogNormal", "loc": -1.0, "scale": 2.0}),
        ("InverseGamma(3, 2)", {"distribution": "InverseGamma", "concentration": 3.0, "rate": 2.0}),
        ("Uniform(1, 2)", {"distribution": "Uniform", "low": 1.0, "high": 2.0}),
        ("Chi2(4)", {"distribution": "Chi2", "df": 4.0}),
    ],
)
def test_scales_on_the_command_line(text, value):
    assert parse_scale(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "nan",
        "inf",
        "1,,2",
        "1;2",
        "__import__('os').system('true')",
        "HalfNormal(1.0).mask(False)",
        "HalfNormal(HalfNormal(1))",
    ],
)
def test_what_is_no_scale_is_refused_and_never_evaluated(text):
    with pytest.raises(ValueError, match=r"noise_scale must be a positive number or .*HalfNormal\(1.0\)"):
        parse_scale(text, "noise_scale")


@pytest.mark.parametrize("text", ["abc", "inf", "HalfNormal(1.0)"])
def test_a_location_is_a_number_and_no_distribution_is_offered(text):
    with pytest.raises(ValueError, match=r"^loc must be a finite number, .*, got '[^']*'$") as error:
        parse_scale(text, "loc")
    assert "distribution" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HalfNrmal(1.0)", r"unknown distribution 'HalfNrmal'; accepted: HalfNormal, "),
        ("Normal(0, 1)", r"unknown distribution 'Normal'"),
        ("HalfNormal(1, 2)", r"^scale: HalfNormal takes scale, got \(1, 2\)"),
        ("HalfNormal(rate=1)", r"HalfNormal takes scale, got \(rate=1\)"),
        ("HalfNormal()", r"HalfNormal takes scale, got \(\)"),
        ("LogNormal(0)", r"LogNormal takes loc and scale, got \(0\)"),
        ("LogNormal(0, loc=1)", r"LogNormal takes loc and scale, got"),
    ],
)
def test_a_bad_distribution_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        parse_scale(text)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prior": "elasticnet", "scale": None, "gaussian_scale": [1.0, 2.0], "laplace_scale": 0.5},
        {"data": "diabetes", "target": None, "prior": "flat", "scale": None, "standardize": False, "noise_scale": 54.0},
        {
            "target": 'a "quoted"\n\\ é \x7f 🙂 column',
            "scale": (0.1, 1e-300),
            "loc": (1.0, -2.0),
            "relative_to_noise": True,
        },
        {
            "scale": {"distribution": "LogNormal", "loc": 0.0, "scale": 1e16},
            "draws": 10,
            "tune": 0,
            "chains": 3,
            "device": "cuda:1",
        },
        {"noise_scale": {"distribution": "HalfNormal", "scale": 1.0, "mask": False}, "method": "svi", "out": "runs/a"},
    ],
)
def test_settings_go_through_toml_and_back(changes, tmp_path):
    found = settings(**changes)
    (tmp_path / "settings.toml").write_text(found.to_toml(), encoding="utf-8")
    again = RunSettings.from_mapping(tomllib.loads(found.to_toml()))
    for field in fields(RunSettings):
        if field.name != "data":
            assert getattr(again, field.name) == getattr(found, field.name), field.name
    assert again.to_toml() == found.to_toml()


def test_written_settings_find_the_data_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tomllib.loads(settings().to_toml())["data"] == str((tmp_path / "houses.csv").resolve())
    assert settings().to_dict()["data"] == "houses.csv"
    assert tomllib.loads(settings(data="diabetes", target=None).to_toml())["data"] == "diabetes"


def test_paths_in_a_file_start_at_the_file(tmp_path):
    (tmp_path / "a.toml").write_text('data = "houses.csv"\ntarget = "price"\nscale = 0.5\nout = "runs/a"\n')
    table = read_toml(tmp_path / "a.toml")
    assert table["data"] == str(tmp_path / "houses.csv") and table["out"] == str(tmp_path / "runs" / "a")
    again = tomllib.loads(RunSettings.from_mapping(table).to_toml())
    assert again["data"] == str((tmp_path / "houses.csv").resolve())
    (tmp_path / "b.toml").write_text('data = "diabetes"\n')
    assert read_toml(tmp_path / "b.toml") == {"data": "diabetes"}


@pytest.mark.parametrize("content", [b"data = ", b"\xff\xfe", b"data = 'a'\ndata = 'b'"])
def test_a_file_that_is_not_toml_is_named(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.toml' is not a TOML file: "):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(ValueError, match=r"experiment must be a TOML file, got '.*b\.toml': No such file"):
        read_toml(tmp_path / "b.toml")


def test_the_model_is_the_one_that_was_described():
    import pyro.distributions as dist

    import bayesreg as br

    found = settings(
        prior="laplace", scale=[0.1, 0.2], loc=1.0, relative_to_noise=True, noise_scale=0.7, intercept=False
    ).model()
    assert isinstance(found.prior, br.LaplacePrior)
    np.testing.assert_array_equal(found.prior.scales(2), [0.1, 0.2])
    np.testing.assert_array_equal(found.prior.locations(2), [1.0, 1.0])
    assert found.prior.relative_to_noise and found.noise_scale == 0.7 and found.intercept is False
    learned = settings(scale={"distribution": "LogNormal", "loc": -1.0, "scale": 0.5}).model()
    assert isinstance(learned.prior, br.GaussianPrior) and isinstance(learned.prior.scale, dist.LogNormal)
    assert isinstance(learned.noise_scale, dist.HalfNormal) and learned.noise_is_learned
    assert isinstance(settings(prior="flat", scale=None).model().prior, br.FlatPrior)
    both = settings(prior="elasticnet", scale=None, gaussian_scale=[1, 2], laplace_scale=0.5, relative_to_noise=True)
    words = {"gaussian_scale": [1.0, 2.0], "laplace_scale": 0.5, "loc": 0.0, "relative_to_noise": True}
    assert both.model().prior.to_dict() == {"kind": "elasticnet"} | words


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"distribution": "Norml", "scale": 1.0}, "Norml"),
        ({"distribution": "HalfNormal", "rate": 1.0}, "HalfNormal takes the numbers scale"),
        ({"distribution": "HalfNormal", "scale": -1.0}, "scale of HalfNormal must be a positive number, got -1"),
        ({"distribution": "LogNormal", "loc": -1.0, "scale": 0.0}, "scale of LogNormal must be .*, got 0"),
        ({"distribution": "Uniform", "low": -1.0, "high": 1.0}, "positive reals"),
    ],
)
def test_a_bad_distribution_in_a_file_is_refused_by_key(table, message):
    with pytest.raises(ValueError, match=f"noise_scale.*{message}"):
        settings(noise_scale=table).model()


def test_data_are_read_in_their_own_units(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,8\n5,5\n")
    found = RunSettings.from_mapping({"data": str(tmp_path / "a.csv"), "target": "y", "scale": 0.5}).load_data()
    np.testing.assert_array_equal(found.features, [[1.0], [3.0], [5.0]])
    np.testing.assert_array_equal(found.target, [2.0, 8.0, 5.0])
    assert RunSettings.from_mapping({"data": "diabetes", "scale": 0.5}).load_data().num_rows == 442


def test_checking_settings_imports_nothing_heavy():
    program = (
        "from bayesreg.experiment.settings import METHODS, RunSettings, parse_scale;"
        "RunSettings.from_mapping({'data': 'diabetes', 'scale': parse_scale('0.5')}).to_toml()"
    )
    assert not {"torch", "numpy", "pyro", "pandas"} & modules_after(program)
