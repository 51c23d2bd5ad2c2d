"""The docstrings are the reference: whatever is public has a summary, a word on each parameter, and an example.

The examples run as doctests: `pytest --doctest-modules` is this project's default.
"""

import functools
import inspect
import re
import types

import pytest

import bayesreg as br

# Parts that engines and other methods are made of: a reader of results has no use for them.
PARTS = {
    "Comparison.to_dict", "LinearRegression.log_prior", "LinearRegression.target", "Moments.about_origin",
    "Moments.condition", "Moments.residuals", "Moments.square_root", "Penalty.canonical", "Penalty.per_feature",
    "Penalty.smooth_gradient", "Penalty.subgradient",
}  # fmt: skip
# What engines read of a prior: one sentence names what goes in and what comes out.
OF_ENGINES = {
    "derivatives", "distribution", "expected_curvature", "locations", "log_density", "rescaled", "scales", "shape",
    "to_dict", "variance",
}  # fmt: skip
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example")


def public():
    """Every public function and class by the name that a user writes."""
    found = {name: getattr(br, name) for name in br.__all__ if not isinstance(getattr(br, name), types.ModuleType)}
    return found | {f"plots.{name}": getattr(br.plots, name) for name in br.plots.__all__ if name.startswith("plot_")}


def members(of_class, properties):
    """The public methods, and properties if wanted, of a class, those of bases of this package too."""
    for base in reversed(of_class.__mro__):
        if not base.__module__.startswith("bayesreg"):
            continue
        for name, member in vars(base).items():
            if isinstance(member, classmethod | staticmethod):
                member = member.__func__
            elif isinstance(member, property) and properties:
                member = member.fget
            elif isinstance(member, functools.cached_property) and properties:
                member = member.func
            if not name.startswith("_") and inspect.isfunction(member):
                yield name, member


def everything(properties=True):
    """Functions, classes and their members, each with its name."""
    for name, thing in public().items():
        yield name, thing
        if inspect.isclass(thing):
            for member, function in members(thing, properties):
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
    assert ALL.keys() >= PARTS


def of_an_engine(name):
    of_class, _, member = name.partition(".")
    return of_class.endswith("Prior") and member in OF_ENGINES


@pytest.mark.parametrize("name", ALL)
def test_it_has_a_summary_of_a_sentence(name):
    summary = sections(ALL[name])[""].split("\n\n")[0].strip()
    assert summary and summary[0].isupper() or summary.startswith("|"), summary
    assert summary.endswith((".", ":")), summary


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_described(name):
    found = sections(ALL[name])
    described = re.findall(r"^    (\*{0,2}\w+)(?: \(.*\))?:", found.get("Args", "") + found.get("Attributes", ""), re.M)
    if of_an_engine(name):
        return
    missing = [parameter for parameter in parameters(ALL[name]) if parameter not in described]
    assert not missing, missing


@pytest.mark.parametrize("name", ALL)
def test_it_has_an_example(name):
    is_property = name not in public() and name not in dict(everything(properties=False))
    if not (is_property or name in PARTS or of_an_engine(name)):
        assert ">>> " in sections(ALL[name]).get("Example", ""), name
