"""The folder of a run: complete or not there, and never somebody else's."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fresh_process import modules_after

import bayesreg
from bayesreg.experiment import run_directory
from bayesreg.experiment.run_directory import (
    MANIFEST,
    data_fingerprint,
    environment,
    new_run,
    read_manifest,
    strict_json,
)


def write_run(out, text="first", force=False):
    with new_run(out, force=force) as run:
        (run.folder / "figures").mkdir()
        (run.folder / "figures" / "a.txt").write_text(text)
        run.manifest["seed"] = 7


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_complete_run_has_its_files_and_a_manifest(tmp_path):
    out = tmp_path / "deep" / "runs" / "one"
    with new_run(out) as run:
        assert not out.exists() and run.folder.parent == out.parent
        (run.folder / "a.txt").write_text("text")
        run.manifest.update(seed=7, settings={"scale": float("inf")})
    assert sorted(tree(out)) == ["a.txt", MANIFEST]
    manifest = read_manifest(out)
    assert manifest["seed"] == 7 and manifest["settings"] == {"scale": None}
    assert manifest["files"] == ["a.txt", MANIFEST]
    assert manifest["environment"]["python"] == sys.version.split()[0]
    assert manifest["environment"]["versions"]["numpy"] == np.__version__
    assert [path.name for path in out.parent.iterdir()] == ["one"]


def test_the_folder_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").mkdir()
    write_run(tmp_path / "one")
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "error",
    [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(143), OSError(errno.ENOSPC, "No space left on device")],
)
def test_nothing_is_left_when_a_run_ends_early(tmp_path, error):
    with pytest.raises(type(error)), new_run(tmp_path / "a" / "b" / "one") as run:
        (run.folder / "half.txt").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_parents_that_somebody_else_uses_by_now_stay(tmp_path):
    with pytest.raises(RuntimeError), new_run(tmp_path / "a" / "b" / "one"):
        (tmp_path / "a" / "other.txt").write_text("mine")
        raise RuntimeError
    assert tree(tmp_path) == {"a/other.txt": b"mine"} and not (tmp_path / "a" / "b").exists()


@pytest.mark.parametrize("place", ["manifest", "rename"])
def test_nothing_is_left_when_the_last_steps_fail(tmp_path, monkeypatch, place):
    def full_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"one' \(--out\): No space"), new_run(tmp_path / "one") as run:
        (run.folder / "a.txt").write_text("text")
        monkeypatch.setattr(Path, "write_text" if place == "manifest" else "rename", full_disk)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["empty folder", "folder", "file", "run"])
def test_what_exists_is_refused_without_force_before_any_work(tmp_path, kind):
    out = tmp_path / "one"
    if kind == "run":
        write_run(out)
    elif kind == "file":
        out.write_text("text")
    else:
        out.mkdir()
        if kind == "folder":
            (out / "thesis.tex").write_text("text")
    before = tree(tmp_path)
    remedy = (
        "or --force to replace the run in it" if kind == "run" else "not a bayesreg run .*not even --force .*another"
    )
    with pytest.raises(ValueError, match=f"exists.*{remedy}"), new_run(out):
        pytest.fail("the block must not run")
    assert tree(tmp_path) == before


def test_force_replaces_an_earlier_run(tmp_path):
    write_run(tmp_path / "one")
    write_run(tmp_path / "one", "second", force=True)
    assert tree(tmp_path)["one/figures/a.txt"] == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize(
    "manifest",
    [None, "not json", "[]", '{"created_by": "somebody else", "files": []}', '{"created_by": "bayesreg"}'],
)
def test_force_never_replaces_what_is_not_a_run(tmp_path, manifest):
    out = tmp_path / "one"
    out.mkdir()
    (out / "thesis.tex").write_text("text")
    if manifest is not None:
        (out / MANIFEST).write_text(manifest)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="not a bayesreg run.*not even --force"), new_run(out, force=True):
        pytest.fail("the block must not run")
    assert tree(tmp_path) == before


def test_force_never_deletes_a_file_that_the_run_did_not_write(tmp_path):
    write_run(tmp_path / "one")
    (tmp_path / "one" / "figures" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"figures/notes\.txt"), new_run(tmp_path / "one", force=True):
        pytest.fail("the block must not run")
    assert tree(tmp_path)["one/figures/notes.txt"] == b"mine"


def test_a_file_that_appears_during_the_run_is_kept_too(tmp_path):
    write_run(tmp_path / "one")
    with pytest.raises(ValueError, match="notes.txt"), new_run(tmp_path / "one", force=True):
        (tmp_path / "one" / "notes.txt").write_text("mine")
    assert tree(tmp_path)["one/notes.txt"] == b"mine"
    with pytest.raises(ValueError, match="exists"), new_run(tmp_path / "two"):
        (tmp_path / "two").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_run_that_fails_under_force_leaves_the_earlier_one(tmp_path, monkeypatch):
    write_run(tmp_path / "one")
    before = tree(tmp_path)
    with pytest.raises(RuntimeError), new_run(tmp_path / "one", force=True):
        raise RuntimeError
    assert tree(tmp_path) == before

    rename = Path.rename
    monkeypatch.setattr(
        Path,
        "rename",
        lambda self, to: rename(self, to) if self.suffix != ".partial" else (_ for _ in ()).throw(OSError("no")),
    )
    with pytest.raises(OSError, match="no"), new_run(tmp_path / "one", force=True) as run:
        (run.folder / "a.txt").write_text("second")
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_link_to_a_run_is_followed_and_kept(tmp_path):
    write_run(tmp_path / "one")
    (tmp_path / "latest").symlink_to("one")
    write_run(tmp_path / "latest", "second", force=True)
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "one" / "figures" / "a.txt").read_text() == "second"


def test_a_folder_that_cannot_be_made_is_said_before_any_work(tmp_path):
    (tmp_path / "file").write_text("text")
    message = r"^cannot write the output folder '.*one' \(--out\): one of its parents is a file$"
    with pytest.raises(OSError, match=message), new_run(tmp_path / "file" / "one"):
        pytest.fail("the block must not run")


def test_what_cannot_be_written_is_said_of_the_folder_asked_for_and_not_of_the_one_aside(tmp_path, monkeypatch):
    def read_only(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    message = r"^cannot write the output folder '.*one' \(--out\): Permission denied$"
    with pytest.raises(OSError, match=message), new_run(tmp_path / "one") as run:
        read_only(run.folder / "a.txt")
    with pytest.raises(FileNotFoundError, match=r"houses\.csv"), new_run(tmp_path / "one"):
        (tmp_path / "houses.csv").read_text()  # not of the folder
    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OSError, match=message), new_run(tmp_path / "one"):
        pytest.fail("the block must not run")
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import pathlib, signal, sys, time
from bayesreg.experiment.run_directory import new_run
with new_run(sys.argv[1]) as run:
    (run.folder / "half.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_an_interrupt_from_outside_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "one")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0 and list(tmp_path.iterdir()) == []


FULL_DISK = """
import pathlib, resource, sys
from bayesreg.experiment.run_directory import new_run
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with new_run(sys.argv[1]) as run:
    (run.folder / "big.bin").write_bytes(b"0" * 100_000)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "one")], capture_output=True, text=True, timeout=60
    )
    assert "OSError" in finished.stderr and list(tmp_path.iterdir()) == []


def test_read_manifest_names_the_folder_that_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.*not a bayesreg run"):
        read_manifest(tmp_path / "nowhere")


def test_strict_json_is_strict():
    document = strict_json(
        {
            "nan": float("nan"),
            "numbers": np.array([1.0, np.inf]),
            "count": np.int64(3),
            "text": "é",
            "path": Path("a"),
            1: (True, None),
        }
    )
    parsed = json.loads(document, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert parsed == {"nan": None, "numbers": [1.0, None], "count": 3, "text": "é", "path": "a", "1": [True, None]}
    with pytest.raises(TypeError):
        strict_json({"object": object()})


class Data:
    features = np.array([[1.0, 2.0], [3.0, 4.0]])
    target = np.array([5.0, 6.0])
    feature_names = ("a", "b")
    target_name, num_rows = "y", 2


def test_the_fingerprint_is_that_of_the_numbers_whatever_their_layout():
    expected = hashlib.sha256(np.array([1, 2, 3, 4, 5, 6], dtype="<f8").tobytes()).hexdigest()
    found = data_fingerprint(Data())
    assert found == {"rows": 2, "features": ["a", "b"], "target": "y", "sha256": expected}
    other = Data()
    other.features = np.asfortranarray(Data.features)
    assert data_fingerprint(other) == found
    other.target = np.array([5.0, np.nextafter(6.0, 7.0)])
    assert data_fingerprint(other)["sha256"] != expected


def test_the_environment_is_read_without_importing_the_packages():
    program = "from bayesreg.experiment.run_directory import environment; assert environment()['versions']['torch']"
    assert not {"torch", "numpy", "arviz"} & modules_after(program)


def test_packages_that_are_missing_are_said_as_missing(monkeypatch):
    monkeypatch.setattr(run_directory, "PACKAGES", ("numpy", "no-such-package-as-this"))
    assert environment()["versions"] == {
        "bayesreg": bayesreg.__version__,
        "numpy": np.__version__,
        "no-such-package-as-this": None,
    }
