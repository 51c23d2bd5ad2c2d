"""The settings of `bayesreg path` and `bayesreg choose`: the same keys in a TOML file and on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bayesreg.experiment.settings import DataSettings, check_seed, checked_numbers, require

if TYPE_CHECKING:
    from bayesreg.data import RegressionData


@dataclass(frozen=True)
class PathSettings(DataSettings):
    """What a path is told. Ranges of numbers are checked where they are used.

    Attributes:
        data: A CSV or Parquet file, or ``diabetes`` for the data that come with scikit-learn.
        target: The name of the target column.
        standardize: Whether features and target are to be brought to mean 0 and standard deviation 1 first.
        kind: The penalty: l2, l1 or elasticnet.
        lambdas: Strengths in the convention mean-half-squared, in the units of the data after ``standardize``.
        num_lambdas: How many strengths there are where they are not given: from where all weights are 0 (l2: nearly)
            to where the fit hardly changes; None: 100.
        l1_ratio: The share of the L1 term of an elastic net; None: 0.5.
        noise_scale: The noise scale that the prior scales refer to; None: that of the highest evidence.
        intercept: Whether there is an intercept.
        test: A file of test rows with the same columns, in the units of the data.
        out: The folder to write.
    """

    FILES: ClassVar[tuple[str, ...]] = ("data", "test")

    kind: str = "l2"
    lambdas: tuple[float, ...] | None = None
    num_lambdas: int | None = None
    l1_ratio: float | None = None
    noise_scale: float | None = None
    intercept: bool = True
    test: str | None = None
    out: str | None = None

    def __post_init__(self):
        self._check_flags("standardize", "intercept")
        self._check_texts("data", "target", "kind", "test", "out", optional=("target", "test", "out"))
        self._check_target()
        self._check_counts(num_lambdas=2)
        if self.lambdas is not None:
            require(self.num_lambdas is None, "num_lambdas", self.num_lambdas, "left out where lambdas are given")
            numbers = checked_numbers("lambdas", self.lambdas, vector=True)
            require(numbers is not None, "lambdas", self.lambdas, "a finite number or a list of them")
            object.__setattr__(self, "lambdas", numbers if isinstance(numbers, tuple) else (numbers,))
        wanted = "left out: only an elastic net, kind='elasticnet', has it"
        require(self.l1_ratio is None or self.kind == "elasticnet", "l1_ratio", self.l1_ratio, wanted)

    def load_test(self, data: RegressionData) -> RegressionData | None:
        """Read the test rows, if there are any.

        Args:
            data: The rows to fit, in their own units.

        Returns:
            The test rows in their own units, or None.

        Raises:
            ValueError: They have other columns.
        """
        if self.test is None:
            return None
        from bayesreg.data import read_table

        rows = read_table(self.test, target=data.target_name)
        ours, theirs = data.feature_names, rows.feature_names
        if ours != theirs:
            differing = sorted(set(ours) ^ set(theirs)) or ["another order"]
            raise ValueError(f"test must have the columns of data; they differ in {', '.join(differing[:5])}")
        return rows

    def fit_arguments(self) -> dict[str, Any]:
        """Return the arguments of a fit that are not about the data or the strengths."""
        given = {"kind": self.kind, "noise_scale": self.noise_scale, "intercept": self.intercept}
        return given if self.l1_ratio is None else given | {"l1_ratio": self.l1_ratio}


@dataclass(frozen=True)
class ChoiceSettings(PathSettings):
    """What a choice of lambda is told.

    Attributes:
        data: As for a path, and so are the others up to ``out``.
        methods: The methods; None: all of them.
        folds: The number of folds of cross-validation.
        seed: Seeds the folds and every other random number.
    """

    methods: tuple[str, ...] | None = None
    folds: int = 10
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        require(self.folds is not None, "folds", None, "a whole number of at least 2")
        self._check_counts(folds=2)
        check_seed(self.seed)
        if self.methods is not None:
            texts = isinstance(self.methods, list | tuple) and all(isinstance(one, str) for one in self.methods)
            require(texts and len(self.methods) > 0, "methods", self.methods, "a list of names, at least one")
            object.__setattr__(self, "methods", tuple(self.methods))
