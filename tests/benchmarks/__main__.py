"""The command: `python -m tests.benchmarks`, from the repository's root, with the extra `bench` installed.

A run of some problems takes the place of these in the machine's stored results and leaves the others: all contestants
of a problem have run in turn in one run, and its section says at which commit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import machine, make_references, measure, render
from .contestants import Contestant, chosen_problems, contestants
from .problems import DESIGNS, PROBLEMS, Problem
from .references import not_its_own, references

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
# What is measured beside the problems, and can be named with them.
BESIDE = ("growth", "svi", "paths", "hard")


def arguments() -> argparse.Namespace:
    """Return the command line's choices."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--problems", nargs="*", help="names, or how they begin, growth, svi, paths, hard; all of them by default"
    )
    parser.add_argument("--engines", nargs="*", help="engines and peers whose names begin so; all by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--repeats", type=int, default=3, help="runs after the first, at least")
    parser.add_argument("--quick", action="store_true", help="two problems only, without growth and SVI")
    parser.add_argument("--device", default="cpu", help="of the package's own engines; peers run on the CPU alone")
    parser.add_argument("--table", type=Path, metavar="JSON", help="only write table and picture of these figures anew")
    parser.add_argument("--references", action="store_true", help="only make the long runs of the Laplace problems")
    return parser.parse_args()


def main() -> None:
    """Measure, or make what the command line asks for."""
    asked = arguments()
    if asked.table:
        render.write(json.loads(asked.table.read_text()), asked.table.parent, asked.table.stem)
        return
    beside = [part for part in BESIDE if (part in asked.problems if asked.problems else not asked.quick)]
    names = [name for name in asked.problems or () if name not in BESIDE]
    problems = [] if asked.problems and not names else chosen_problems(names, asked.quick)
    started = time.perf_counter()
    found = {"machine": machine.describe(asked.device, ROOT), "records": []}
    name = machine.file_name(found["machine"])
    stored = _stored(asked.out / f"{name}.json", found["machine"]) if asked.problems else {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for design in DESIGNS:
            of_design = [problem for problem in problems if problem.design == design]
            if of_design:
                found["records"] += _on_design(of_design, Path(folder), asked)
    if asked.references:
        return
    if "growth" in beside:
        found["growth"] = _process("tests.benchmarks.growth", asked.device)
    if "svi" in beside and asked.device == "cpu":
        found["svi"] = [_process("tests.benchmarks.variational", who) for who in ("svi", "numpyro", "pyro")]
    if "paths" in beside and asked.device == "cpu":
        found["paths"] = _process("tests.benchmarks.paths")
    if "hard" in beside and asked.device == "cpu":
        found["hard"] = _process("tests.benchmarks.hard_designs")
    minutes = (time.perf_counter() - started) / 60.0
    for record in [*found["records"], *(found[part] for part in ("paths", "hard") if part in found)]:
        record["commit"] = found["machine"]["commit"]
    found = joined(stored, found)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    render.write(found, asked.out, name)
    print(f"{asked.out / name}.json, .md and .png, after {minutes:.0f} minutes")


def _stored(path: Path, described: dict) -> dict:
    """Return the results that are there, if they are of the same versions.

    Raises:
        SystemExit: They are of other versions.
    """
    found = json.loads(path.read_text()) if path.exists() else {}
    if found and found["machine"]["versions"] != described["versions"]:
        raise SystemExit(f"{path} is of other versions of the libraries: run all problems, or choose another --out")
    return found


def joined(stored: dict, found: dict) -> dict:
    """Return stored results with the problems measured now in the place of the same ones.

    Args:
        stored: What an earlier run has written; empty where there was none.
        found: What was measured now.

    Returns:
        Records in the order of the problems, and everything else that either has, the newer one first.
    """
    anew = {record["problem"] for record in found["records"]}
    records = found["records"] + [record for record in stored.get("records", []) if record["problem"] not in anew]
    order = list(PROBLEMS)
    return stored | found | {"records": sorted(records, key=lambda record: order.index(record["problem"]))}


def _on_design(problems: list[Problem], folder: Path, asked: argparse.Namespace) -> list[dict]:
    """Measure all problems of one data set, or make their references."""
    rows = problems[0].rows()
    files = [folder / "features.npy", folder / "target.npy"]
    for file, part in zip(files, rows, strict=True):
        np.save(file, part)
    records = []
    for problem in problems:
        _say(f"{problem.name}: {problem.describe()}")
        if asked.references:
            if problem.prior == "laplace":
                make_references.make(problem, files, ROOT, _say)
            continue
        stored = references(problem, rows)
        if not stored:
            _say("  no reference: python -m tests.benchmarks --references --problems " + problem.name)
            continue
        for source, reference in stored.items():
            np.savez(folder / f"{problem.name} {source}.npz", **vars(reference))

        def path(contestant: Contestant, problem=problem, stored=stored) -> Path:
            return folder / f"{problem.name} {not_its_own(stored, contestant)}.npz"

        chosen = [one for one in contestants(problem) if _is_chosen(one, asked)]
        records += measure.measure(problem, chosen, path, files, asked.device, asked.repeats, ROOT, _say)
    return records


def _say(line: str) -> None:
    print(line, flush=True)


def _is_chosen(contestant: Contestant, asked: argparse.Namespace) -> bool:
    if asked.device != "cpu" and not contestant.is_ours:
        return False
    return not asked.engines or contestant.name.lower().startswith(tuple(name.lower() for name in asked.engines))


def _process(module: str, *words: str):
    """Run a module in a process of its own and return what it prints as JSON; what went wrong, where it fails."""
    finished = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True)
    if finished.returncode:
        return {"not_run": finished.stderr.strip().splitlines()[-1], "words": list(words)}
    return json.loads(finished.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
