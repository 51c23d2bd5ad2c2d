"""The docstrings are the reference: whatever is public has a summary, a word on each parameter, and an example.

The examples run as doctests: `pytest --doctest-modules` is this project's default.
"""

import functools
import inspect
import re
import types

import pytest

import bayesreg as br

# What a reader of results calls; the others are parts that engines and these are made of.
OF_CONSEQUENCE = {
    "ChoiceStudy": ["summary"],
    "Comparison": ["to_frame"],
    "CrossValidation": ["to_frame"],
    "LambdaChoice": ["to_frame"],
    "LinearRegression": ["conditioned", "from_dict", "prior_draws", "pyro_model", "to_dict"],
    "MapEstimate": ["original_units"],
    "Moments": ["from_batches", "from_data", "standardized"],
    "Path": ["certificate", "leave_one_out_rows", "loss", "original_units", "penalty", "prior", "to_frame"],
    "Penalty": ["largest_useful", "original_units", "proximal_step", "to", "value"],
    "Posterior": ["load", "original_units", "predict", "save", "summary", "thin", "to_datatree"],
    "PosteriorPath": ["to_frame"],
    "RegressionData": ["split", "standardized"],
    "Remedy": ["to_frame"],
    "TrainingPath": ["penalty", "run", "to_frame"],
    "TrainingRun": ["original_units"],
}
# What engines read of a prior: one sentence names what goes in and what comes out.
OF_ENGINES = {
    "derivatives", "distribution", "expected_curvature", "locations", "log_density", "rescaled", "scales", "shape",
    "variance",
}  # fmt: skip
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example")


def public():
    """Every public function and class by the name that a user writes."""
    found = {name: getattr(br, name) for name in br.__all__ if not isinstance(getattr(br, name), types.ModuleType)}
    return found | {f"plots.{name}": getattr(br.plots, name) for name in br.plots.__all__ if name.startswith("plot_")}


def members(of_class):
    """The public methods and properties of a class, those of bases of this package too."""
    for base in reversed(of_class.__mro__):
        if not base.__module__.startswith("bayesreg"):
            continue
        for name, member in vars(base).items():
            if isinstance(member, classmethod | staticmethod):
                member = member.__func__
            elif isinstance(member, property):
                member = member.fget
            elif isinstance(member, functools.cached_property):
                member = member.func
            if not name.startswith("_") and inspect.isfunction(member):
                yield name, member


def everything():
    """Functions, classes and their members, each with its name."""
    for name, thing in public().items():
        yield name, thing
        if inspect.isclass(thing):
            for member, function in members(thing):
                yield f"{name}.{member}", function


ALL = dict(everything())


def sections(thing):
    """The text before the first section, and each section's text."""
    found = {"": ""}
    current = ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        heading = re.fullmatch(r"(\w+):", line)
        if heading and heading[1] in SECTIONS:
            current = heading[1]
            found[current] = ""
        else:
            found[current] += line + "\n"
    return found


def parameters(thing):
    """The names that a caller may give."""
    if inspect.isclass(thing) and issubclass(thing, Warning):
        return []
    names = [
        ("*" * (parameter.kind == parameter.VAR_POSITIONAL) + "**" * (parameter.kind == parameter.VAR_KEYWORD)) + name
        for name, parameter in inspect.signature(thing).parameters.items()
    ]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def test_what_is_looked_at_is_what_there_is():
    assert len(public()) > 50 and len(ALL) > 150
    for name, methods in OF_CONSEQUENCE.items():
        assert {f"{name}.{method}" for method in methods} <= ALL.keys(), name


@pytest.mark.parametrize("name", ALL)
def test_it_has_a_summary_of_a_sentence(name):
    summary = sections(ALL[name])[""].split("\n\n")[0].strip()
    assert summary and summary[0].isupper() or summary.startswith("|"), summary
    assert summary.endswith((".", ":")), summary


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_described(name):
    found = sections(ALL[name])
    described = re.findall(r"^    (\*{0,2}\w+)(?: \(.*\))?:", found.get("Args", "") + found.get("Attributes", ""), re.M)
    if name.split(".")[0].endswith("Prior") and name.split(".")[-1] in OF_ENGINES:
        return
    missing = [parameter for parameter in parameters(ALL[name]) if parameter not in described]
    assert not missing, missing


@pytest.mark.parametrize(
    "name", [*public(), *(f"{name}.{one}" for name, ones in OF_CONSEQUENCE.items() for one in ones)]
)
def test_it_has_an_example(name):
    assert ">>> " in sections(ALL[name]).get("Example", ""), name
