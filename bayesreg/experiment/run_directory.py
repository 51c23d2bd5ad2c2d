"""A run's folder: written aside, given a manifest, and renamed into place when everything in it is complete.

Whatever ends a run before that (an error, a full disk, an interrupt) leaves nothing behind, and a folder is replaced
only where its own manifest says that this package wrote every file in it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bayesreg

if TYPE_CHECKING:
    import pandas as pd

    from bayesreg.data import RegressionData
    from bayesreg.posteriors.posterior import Posterior

MANIFEST = "manifest.json"
CREATOR = "bayesreg"
_INTERRUPTS = 10
_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
PACKAGES = (
    "torch", "pyro-ppl", "arviz", "arviz-base", "arviz-stats", "arviz-plots", "numpy", "scipy", "pandas",
    "pyarrow", "xarray", "matplotlib", "scikit-learn", "h5netcdf", "h5py",
)  # fmt: skip


@dataclass
class Run:
    """A run while it is being written.

    Attributes:
        folder: Where its files go until it is complete: a sibling of the folder asked for.
        manifest: What the manifest will say beyond the environment and the list of files; strict JSON values.
        name: The name that the folder will have.
        created_at: When it was begun, in ISO 8601.
    """

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@contextmanager
def new_run(out: str | Path, *, force: bool = False) -> Iterator[Run]:
    """Write a run aside and rename it to ``out`` once the block has ended without an exception.

    The manifest is added at the end: ``run.manifest``, the environment, and the names of all files.

    Args:
        out: The folder to make; its parents are made too, and removed again where the run fails.
        force: Replace a folder that an earlier run wrote. Nothing else is ever replaced.

    Yields:
        The run: write files under ``run.folder``, put what the manifest shall say in ``run.manifest``.

    Raises:
        ValueError: ``out`` exists and may not be replaced.
        OSError: It cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with new_run(Path(folder) / "first") as run:
        ...         _ = (run.folder / "answer.txt").write_text("42")
        ...         run.manifest["seed"] = 0
        ...     read_manifest(Path(folder) / "first")["files"]
        ['answer.txt', 'manifest.json']
    """
    out = Path(out).resolve()
    aside = _sibling(out, "partial")
    run, made = None, []
    try:
        if reason := _why_not(out, force):
            raise ValueError(reason)
        made = [parent for parent in out.parents if not parent.exists()]
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        run = Run(aside, name=out.name)
        yield run
        files = sorted([path.relative_to(aside).as_posix() for path in _files(aside)] + [MANIFEST])
        entries = {
            "created_by": CREATOR,
            "created_at": run.created_at,
            **run.manifest,
            "environment": environment(),
            "files": files,
        }
        (aside / MANIFEST).write_text(strict_json(entries), encoding="utf-8")
        if reason := _why_not(out, force):  # it may have come into being meanwhile
            raise ValueError(reason)
        _put_in_place(aside, out)
    except BaseException as error:
        _remove(aside)
        for parent in made:
            # Another run may have put something there meanwhile: only empty parents go.
            if not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()
        # Some libraries leave the path out where the disk is full, and a run writes nowhere else.
        ours = run is None or aside.name in str(error) or getattr(error, "errno", None) in _DISK_FULL
        if isinstance(error, OSError) and ours:
            raise OSError(f"cannot write the output folder {str(out)!r} (--out): {_reason(error)}") from error
        raise


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return the manifest of a run.

    Args:
        folder: The folder of the run.

    Returns:
        The manifest's entries.

    Raises:
        ValueError: The folder has no manifest written by this package.
    """
    path = Path(folder) / MANIFEST
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        entries = None
    if (
        not isinstance(entries, dict)
        or entries.get("created_by") != CREATOR
        or not isinstance(entries.get("files"), list)
    ):
        raise ValueError(f"{str(folder)!r} is not a bayesreg run: it has no {MANIFEST} that bayesreg wrote")
    return entries


def environment() -> dict[str, Any]:
    """Return the versions of Python and of the packages that results depend on, and the platform."""
    versions = {"bayesreg": bayesreg.__version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {"python": platform.python_version(), "platform": platform.platform(), "versions": versions}


def data_fingerprint(data: RegressionData) -> dict[str, Any]:
    """Return what identifies the data of a run, as they are given: shape, names and a hash.

    Args:
        data: The rows.

    Returns:
        ``rows``, ``features`` and ``target`` (names), and ``sha256``: the hash of the feature matrix (float64, row by
        row, little endian), followed by the target's.
    """
    digest = hashlib.sha256()
    for values in (data.features, data.target):
        digest.update(values.astype("<f8", order="C").tobytes())
    return {
        "rows": data.num_rows,
        "features": list(data.feature_names),
        "target": data.target_name,
        "sha256": digest.hexdigest(),
    }


def write_posterior(folder: Path, posterior: Posterior, name: str = "") -> dict[str, pd.DataFrame]:
    """Write the draws of a posterior, and its summary in the units of the sampling and in those of the data.

    Args:
        folder: Where to write ``posterior<name>.nc`` and ``summary<name>-<units>.csv``.
        posterior: The posterior, as sampled.
        name: Tells several in one folder apart, such as ``-laplace``.

    Returns:
        The summaries by units: ``original``, and ``standardized`` where the data were.
    """
    posterior.save(folder / f"posterior{name}.nc")
    units = {"original": posterior}
    if posterior.data.transform is not None:
        units = {"standardized": posterior, "original": posterior.original_units()}
    summaries = {unit: draws.summary() for unit, draws in units.items()}
    for unit, summary in summaries.items():
        summary.to_csv(folder / f"summary{name}-{unit}.csv", index_label="quantity")
    return summaries


def strict_json(value: Any, indent: int | None = 2) -> str:
    """Return a value as a JSON document that every parser reads: NaN and infinities become null.

    Args:
        value: Mappings, sequences, numbers (NumPy's and arrays too), strings, booleans, paths, None.
        indent: Spaces a level; None: all on one line.

    Returns:
        The document, with a newline at its end.

    Example:
        >>> print(strict_json({"gap": float("nan"), "out": Path("runs")}), end="")
        {
          "gap": null,
          "out": "runs"
        }
    """
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False) + "\n"


def put_text(path: Path, text: str) -> None:
    """Write a file aside and rename it, so that there is never half of one.

    Args:
        path: The file; one that exists is replaced.
        text: What it shall hold.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Return a value with nothing in it but what every JSON parser reads: NaN and infinities are None."""
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, tensors
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _why_not(out: Path, force: bool) -> str | None:
    """Return why a folder may not be written, or None where it may."""
    if not out.exists():
        return None
    irreplaceable = _why_irreplaceable(out)
    if irreplaceable is None:
        replace = f"the output folder {str(out)!r} exists; give another one, or --force to replace the run in it"
        return None if force else replace
    return f"the output folder {str(out)!r} exists, and {irreplaceable}: not even --force replaces it; give another one"


def _why_irreplaceable(out: Path) -> str | None:
    """Return why --force does not replace what exists, or None where it does."""
    try:
        known = {*read_manifest(out)["files"], MANIFEST}
    except ValueError:
        return f"is not a bayesreg run (it has no {MANIFEST} that bayesreg wrote)"
    strangers = sorted({path.relative_to(out).as_posix() for path in _files(out)} - known)
    shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
    return f"holds files that its run did not write ({shown})" if strangers else None


def _reason(error: OSError) -> str:
    """Return what the system says, without the path: that of the folder aside is nobody's business."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "one of its parents is a file"
    return error.strerror or str(error)


def _put_in_place(aside: Path, out: Path) -> None:
    if not out.exists():
        aside.rename(out)
        return
    replaced = _sibling(out, "replaced")
    out.rename(replaced)
    try:
        aside.rename(out)
    except BaseException:
        replaced.rename(out)
        raise
    shutil.rmtree(replaced)


def _remove(folder: Path) -> None:
    """Remove a folder, also where impatience interrupts that."""
    for _ in range(_INTERRUPTS):
        try:
            shutil.rmtree(folder, ignore_errors=True)
            return
        except KeyboardInterrupt:
            continue


def _sibling(out: Path, purpose: str) -> Path:
    return out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.{purpose}")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
