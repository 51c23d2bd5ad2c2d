"""The settings of a run: the same keys in a TOML file and on the command line, checked where they are stored.

Nothing heavy is imported until the data are read or the model is made.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bayesreg.engines import METHODS

if TYPE_CHECKING:
    from bayesreg.data import RegressionData
    from bayesreg.model import LinearRegression

BUILT_IN_DATA = "diabetes"
PRIORS = ("gaussian", "laplace", "elasticnet", "flat")
# The scales of each prior.
SCALES = {"gaussian": ("scale",), "laplace": ("scale",), "elasticnet": ("gaussian_scale", "laplace_scale"), "flat": ()}
NOISE_OF_STANDARDIZED_DATA = {"distribution": "HalfNormal", "scale": 1.0}
LARGEST_SEED = 2**63 - 1  # what torch's generators take

# What the command line takes for each argument that `parse_scale` reads.
_ACCEPTED = {
    "scale": "a positive number, such numbers with commas between them (one a feature) or a distribution such as "
    "HalfNormal(1.0)",
    "noise_scale": "a positive number or a distribution such as HalfNormal(1.0)",
    "gaussian_scale": "a positive number, or such numbers with commas between them (one a feature)",
    "laplace_scale": "a positive number, or such numbers with commas between them (one a feature)",
    "loc": "a finite number, or such numbers with commas between them (one a feature)",
    "lambdas": "a positive number, or such numbers with commas between them",
}

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_ARGUMENT = rf"(?:[a-z_]+\s*=\s*)?{_NUMBER}"
_DISTRIBUTION = re.compile(rf"\s*([A-Za-z]\w*)\s*\(\s*({_ARGUMENT}(?:\s*,\s*{_ARGUMENT})*)?\s*\)\s*")
_NUMBERS = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*")


@dataclass(frozen=True)
class DataSettings:
    """What every command that reads data is told: the same keys in a TOML file and on the command line.

    Attributes:
        data: A CSV or Parquet file, or ``diabetes`` for the data that come with scikit-learn.
        target: The name of the target column.
        standardize: Whether features and target are to be brought to mean 0 and standard deviation 1 first.
    """

    # The keys that are files, which may be given relative to the folder of a TOML file.
    FILES: ClassVar[tuple[str, ...]] = ("data",)

    data: str
    target: str | None = None
    standardize: bool = True

    def _check_flags(self, *names: str) -> None:
        for name in names:
            require(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")

    def _check_texts(self, *names: str, optional: tuple[str, ...]) -> None:
        for name in names:
            value = getattr(self, name)
            given = isinstance(value, str) and value.strip() or (value is None and name in optional)
            require(given, name, value, "a text that is not empty")

    def _check_counts(self, **least: int) -> None:
        for name, smallest in least.items():
            value = getattr(self, name)
            require(value is None or _is_whole(value, smallest), name, value, f"a whole number of at least {smallest}")

    def _check_target(self) -> None:
        if self.data == BUILT_IN_DATA:
            require(self.target is None, "target", self.target, f"left out: the {BUILT_IN_DATA} data have their own")
        else:
            require(self.target is not None, "target", self.target, "the name of the column to predict")

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any]) -> Self:
        """Check a table of settings.

        Args:
            table: Values by the names of the attributes.

        Returns:
            The settings.

        Raises:
            ValueError: A key that does not exist, or no ``data``.
        """
        accepted = [field.name for field in fields(cls)]
        for key in table:
            if key not in accepted:
                raise ValueError(
                    f"unknown key {key!r}; accepted, the closest first: {', '.join(_closest(key, accepted))}"
                )
        if "data" not in table:
            raise ValueError(f"data is missing; give a CSV or Parquet file, or {BUILT_IN_DATA!r} for the built-in data")
        return cls(**table)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that are set, in the words of TOML and JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def to_toml(self) -> str:
        """Return a TOML file that says the same from any folder: paths to data are made absolute."""
        table = self.to_dict()
        for name in self.FILES:
            if name in table and table[name] != BUILT_IN_DATA:
                table[name] = str(Path(table[name]).resolve())
        return "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())

    def load_data(self, progress: bool = False) -> RegressionData:
        """Read the data.

        Args:
            progress: Whether to show progress.

        Returns:
            The rows in their own units.
        """
        from bayesreg.data import load_diabetes, read_table

        if self.data == BUILT_IN_DATA:
            return load_diabetes()
        return read_table(self.data, target=self.target, progress=progress)


@dataclass(frozen=True)
class RunSettings(DataSettings):
    """What a run is told. A scale is a number, a list of numbers (one a feature) or a table that names a distribution.

    Attributes:
        data: A CSV or Parquet file, or ``diabetes`` for the data that come with scikit-learn.
        target: The name of the target column.
        standardize: Whether features and target are to be brought to mean 0 and standard deviation 1 first.
        prior: The prior of the weights: gaussian, laplace, elasticnet or flat.
        scale: The scale of a gaussian or a laplace prior, in the units of the data after ``standardize``.
        gaussian_scale: The scale of the Gaussian factor of an elasticnet prior: a number, or one number a feature.
        laplace_scale: The scale of its Laplace factor, likewise.
        loc: The location of the prior: a number or one number a feature.
        relative_to_noise: Whether the prior's scale, or both of them, multiply the noise scale.
        noise_scale: The scale of the noise; on standardized data it is learned under HalfNormal(1.0) where not given.
        intercept: Whether the model has an intercept.
        method: The inference engine.
        draws: Draws a chain; None leaves it to the engine, as for ``tune`` and ``chains``.
        tune: Warm-up steps a chain.
        chains: The number of chains.
        seed: Seeds every random number of the run.
        device: auto, cpu, cuda or cuda:INDEX.
        out: The folder to write.

    Example:
        >>> RunSettings.from_mapping({"data": "diabetes", "prior": "laplace", "scale": 0.25}).noise_scale
        {'distribution': 'HalfNormal', 'scale': 1.0}
    """

    prior: str = "gaussian"
    scale: float | tuple[float, ...] | dict[str, Any] | None = None
    gaussian_scale: float | tuple[float, ...] | None = None
    laplace_scale: float | tuple[float, ...] | None = None
    loc: float | tuple[float, ...] = 0.0
    relative_to_noise: bool = False
    noise_scale: float | dict[str, Any] | None = None
    intercept: bool = True
    method: str = "auto"
    draws: int | None = None
    tune: int | None = None
    chains: int | None = None
    seed: int = 0
    device: str = "auto"
    out: str | None = None

    def __post_init__(self):
        self._check_flags("standardize", "relative_to_noise", "intercept")
        self._check_texts("data", "target", "device", "out", optional=("target", "out"))
        for name, accepted in (("prior", PRIORS), ("method", METHODS)):
            _require_one_of(name, getattr(self, name), accepted)
        self._check_counts(draws=1, tune=0, chains=1)
        check_seed(self.seed)
        require(
            re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device), "device", self.device, "auto, cpu, cuda or cuda:INDEX"
        )
        self._check_target()
        self._check_prior()
        self._check_noise()

    def _check_prior(self) -> None:
        for name in ("scale", "gaussian_scale", "laplace_scale"):
            value = getattr(self, name)
            if name not in SCALES[self.prior]:
                theirs = " and ".join(SCALES[self.prior])
                has = f"has {theirs}" if theirs else "has none"
                require(value is None, name, value, f"left out: {_a(self.prior)} prior {has}")
                continue
            wanted = f"given: how large the weights may be under the {self.prior} prior, such as 0.5"
            require(value is not None, name, value, wanted)
            learns = self.prior != "elasticnet"
            object.__setattr__(self, name, _checked_scale(name, value, vector=True, distribution=learns))
        if self.prior == "flat":
            require(not self.relative_to_noise, "relative_to_noise", True, "left out: a flat prior has no scale")
        location = checked_numbers("loc", self.loc, vector=True)
        require(location is not None, "loc", self.loc, "a finite number or a list of them, one a feature")
        require(self.prior != "flat" or location == 0.0, "loc", self.loc, "left out: a flat prior has none")
        object.__setattr__(self, "loc", location)

    def _check_noise(self) -> None:
        if self.noise_scale is None:
            wanted = "given where the data are not standardized: a number, or a distribution such as HalfNormal(10.0)"
            require(self.standardize, "noise_scale", None, wanted)
            object.__setattr__(self, "noise_scale", dict(NOISE_OF_STANDARDIZED_DATA))
        object.__setattr__(self, "noise_scale", _checked_scale("noise_scale", self.noise_scale, vector=False))

    def model(self) -> LinearRegression:
        """Make the model.

        Returns:
            Linear regression with the prior and the noise of the settings.
        """
        from bayesreg.model import LinearRegression

        prior: dict[str, Any] = {"kind": self.prior}
        if self.prior != "flat":
            prior |= {name: getattr(self, name) for name in SCALES[self.prior]}
            prior |= {"loc": self.loc, "relative_to_noise": self.relative_to_noise}
        return LinearRegression.from_dict(
            {"prior": prior, "noise_scale": self.noise_scale, "intercept": self.intercept}
        )


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read the settings in a TOML file; its ``data``, ``test`` and ``out`` are relative to the file's own folder.

    Args:
        path: The file.

    Returns:
        Its table, for `RunSettings.from_mapping`.

    Raises:
        ValueError: The file cannot be read, or is not TOML.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"experiment must be a TOML file, got {str(path)!r}: {error.strerror}") from error
    except ValueError as error:  # of TOML or of UTF-8
        raise ValueError(f"{str(path)!r} is not a TOML file: {error}") from error
    for key in ("data", "test", "out"):
        if isinstance(table.get(key), str) and table[key] not in ("", BUILT_IN_DATA):
            table[key] = str(path.parent / table[key])
    return table


def check_seed(seed: Any) -> None:
    """Refuse what is no seed.

    Args:
        seed: What was given.

    Raises:
        ValueError: It is not a whole number from 0 to 2^63 - 1.
    """
    require(_is_whole(seed, 0) and seed <= LARGEST_SEED, "seed", seed, f"a whole number from 0 to {LARGEST_SEED}")


def parse_scale(text: str, argument: str = "scale") -> float | tuple[float, ...] | dict[str, Any]:
    """Read a scale, a location or strengths from the command line; nothing is evaluated.

    Args:
        text: A number, numbers with commas between them, or (for a scale that can be learned) a distribution such as
            ``HalfNormal(1.0)``; which of these, the argument says.
        argument: Which one it is: ``scale``, ``gaussian_scale``, ``laplace_scale``, ``noise_scale``, ``loc`` or
            ``lambdas``.

    Returns:
        A number, numbers, or the table that names the distribution.

    Raises:
        ValueError: The text is none of these.

    Example:
        >>> parse_scale("LogNormal(0, scale=1.5)")
        {'distribution': 'LogNormal', 'loc': 0.0, 'scale': 1.5}
    """
    if _NUMBERS.fullmatch(text):
        numbers = tuple(float(part) for part in text.split(","))
        return numbers if len(numbers) > 1 else numbers[0]
    if argument in ("scale", "noise_scale") and (found := _DISTRIBUTION.fullmatch(text)):
        return _distribution(found[1], [part.strip() for part in (found[2] or "").split(",")], argument)
    raise ValueError(f"{argument} must be {_ACCEPTED[argument]}, got {text!r}")


def _distribution(name: str, arguments: list[str], argument: str) -> dict[str, Any]:
    from bayesreg.scales import DISTRIBUTIONS

    if name not in DISTRIBUTIONS:
        raise ValueError(
            f"{argument}: unknown distribution {name!r}; accepted: {', '.join(_closest(name, list(DISTRIBUTIONS)))}"
        )
    names = DISTRIBUTIONS[name]
    refusal = f"{argument}: {name} takes {' and '.join(names)}, got ({', '.join(arguments)})"
    table: dict[str, Any] = {}
    for position, text in enumerate(filter(None, arguments)):
        key, _, number = text.rpartition("=")
        key = key.strip() or (names[position] if position < len(names) else "")
        if key not in names or key in table:
            raise ValueError(refusal)
        table[key] = float(number)
    if len(table) < len(names):
        raise ValueError(refusal)
    return {"distribution": name, **table}


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _checked_scale(name: str, value: Any, vector: bool, distribution: bool = True) -> Any:
    # The rest of a distribution is checked where the model is made: its support is known to torch alone.
    accepted = "a positive finite number" + (", a list of them (one a feature)" if vector else "")
    accepted += ' or a distribution such as {distribution = "HalfNormal", scale = 1.0}' if distribution else ""
    if isinstance(value, Mapping) and distribution:
        require("distribution" in value, name, dict(value), accepted)
        for key, number in value.items():
            if key not in ("distribution", "mask", "loc", "low") and checked_numbers(key, number, False) is not None:
                require(number > 0, f"{name}: {key} of {value['distribution']}", number, "a positive number")
        return dict(value)
    numbers = checked_numbers(name, value, vector)
    require(
        numbers is not None and min(numbers if isinstance(numbers, tuple) else (numbers,)) > 0, name, value, accepted
    )
    return numbers


def checked_numbers(name: str, value: Any, vector: bool) -> float | tuple[float, ...] | None:
    """Return a finite number as a float, finite numbers as a tuple, and None for anything else."""
    many = isinstance(value, list | tuple)
    numbers = value if many else (value,)
    real = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    if not numbers or (many and not vector) or not real or not all(map(math.isfinite, numbers)):
        return None
    return tuple(map(float, numbers)) if many else float(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def require(condition: Any, name: str, value: Any, accepted: str) -> None:
    """Refuse a setting by its name, where the condition does not hold.

    Args:
        condition: What must be true.
        name: The setting.
        value: What was given.
        accepted: What would do.

    Raises:
        ValueError: The condition does not hold.
    """
    if not condition:
        raise ValueError(f"{name} must be {accepted}" + ("" if value is None else f", got {value!r}"))


def _require_one_of(name: str, value: Any, accepted: tuple[str, ...]) -> None:
    require(value in accepted, name, value, f"one of {', '.join(_closest(str(value), list(accepted)))}")


def _closest(word: str, accepted: list[str]) -> list[str]:
    def similarity(known: str) -> float:
        return difflib.SequenceMatcher(None, word.lower(), known.lower()).ratio()

    return sorted(accepted, key=similarity, reverse=True)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    # TOML's basic strings are JSON's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)
