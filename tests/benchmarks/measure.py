"""The rounds: every contestant of a problem in a process of its own, each in turn, until each has enough."""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
from pathlib import Path

from .contestants import LONGEST_RUN, Contestant
from .problems import Problem

# Draws of an ESS of 10,000 resolve 3 % of a standard deviation at 4 standard errors.
WANTED_ESS = 10_000
# Of one contestant on one problem: no further round beyond it.
SECONDS = 20.0
MOST_ROUNDS = 12
# A contestant's turn lasts so long, or as many runs: a run of milliseconds right after another process's would be
# timed with that one's data in the caches, which a run of seconds does not feel.
SECONDS_A_TURN, MOST_RUNS_A_TURN = 0.25, 10
# What a first run may take with imports and compile before its process is ended.
_PARTS = (("import_seconds", "imports"), ("compile_seconds", "compile"), ("seconds", "first run"))
PATIENCE = LONGEST_RUN + 120.0
# Fresh processes that figure c is the median of, where one takes no longer than so many seconds.
FIRST_CALLS, LONGEST_FIRST_CALL = 3, 25.0


class Process:
    """A worker, seen from here."""

    def __init__(self, contestant: Contestant, request: dict, root: Path, patience: float = PATIENCE):
        self.contestant, self.request = contestant, request
        self.patience = patience
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root,
        )  # fmt: skip
        self.rounds = 0
        self.runs: list[dict] = []
        self.moments: list[dict] = []
        self.first = self.ask(request)
        self.not_run = self.first.get("not_run")
        if self.not_run is None:
            self.runs.append(self.first)

    def ask(self, request: dict) -> dict:
        """Send a request and wait for its answer."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self.process.kill()
            return {"not_run": f"not done within {self.patience:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"not_run": "its process ended"}

    def do(self, what: str, *arguments) -> dict:
        """Ask for a method of the worker."""
        answer = self.ask({"do": what, "arguments": arguments})
        self.not_run = self.not_run or answer.get("not_run")
        return answer

    def turn(self, what: str, seed: int) -> list[dict]:
        """Run until the turn is over, each time with another seed; return the answers of the runs that went well."""
        answers: list[dict] = []
        while self.not_run is None and len(answers) < MOST_RUNS_A_TURN:
            answer = self.do(what, MOST_RUNS_A_TURN * seed + len(answers))
            if "seconds" not in answer:
                break
            answers.append(answer)
            if sum(one["seconds"] for one in answers) > SECONDS_A_TURN:
                break
        return answers

    def wants_more(self, repeats: int) -> bool:
        """Whether another round is due: for the medians, or for draws that the gates can judge."""
        if self.not_run is not None or self.rounds >= MOST_ROUNDS:
            return False
        spent = sum(run["seconds"] for run in self.runs)
        if spent > SECONDS:
            return False
        return self.rounds < repeats or sum(run["ess"] for run in self.runs) < WANTED_ESS

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(
    problem: Problem,
    contestants: list[Contestant],
    reference_path,
    rows: list[Path],
    device: str,
    repeats: int,
    root: Path,
    say=print,
) -> list[dict]:
    """Run all contestants of a problem.

    Args:
        problem: The problem.
        contestants: Who runs.
        reference_path: of a contestant, the file with what its draws must match.
        rows: The files of features and target.
        device: Of the package's own engines.
        repeats: Runs after the first, at least, where they fit into the time.
        root: The repository's root.
        say: Prints a line of progress.

    Returns:
        One record a contestant, as it is written to JSON.
    """
    processes = []
    for contestant in contestants:
        request = {
            "problem": problem.name,
            "module": contestant.module,
            "settings": contestant.settings,
            "device": device,
            "rows": [str(path) for path in rows],
            "reference": str(reference_path(contestant)),
        }
        processes.append(Process(contestant, request, root))
        say(f"  {contestant.name}: {started(processes[-1])}")
    seed = 0
    while any(process.wants_more(repeats) for process in processes):
        seed += 1
        for process in processes:
            if not process.wants_more(repeats):
                continue
            process.rounds += 1
            process.runs += process.turn("run", seed)
            if process.contestant.is_ours and process.rounds <= repeats:
                process.moments += process.turn("moments", seed)
    records = []
    for process in processes:
        records.append(record(problem, process, seed))
        process.close()
        if "c" in records[-1]:
            records[-1] |= first_calls(process, root)
        say(f"  {records[-1]['contestant']}: {summary(records[-1])}")
    return records


def first_calls(process: Process, root: Path) -> dict:
    """Return figure c as a median of fresh processes, where imports, compile and run are not too long for another.

    Args:
        process: A contestant's process, which has ended.
        root: The repository's root.

    Returns:
        ``c``, and ``c_of`` each process.
    """
    found = [ess_a_second_of_first(process.first)]
    while len(found) < FIRST_CALLS and sum(process.first[key] for key, _ in _PARTS) < LONGEST_FIRST_CALL:
        again = Process(process.contestant, process.request, root)
        again.close()
        if again.not_run is not None:
            break
        found.append(ess_a_second_of_first(again.first))
    return {"c": statistics.median(found), "c_of": found}


def ess_a_second_of_first(first: dict) -> float:
    """Return ESS a second of the first run in a process, compile included."""
    return first["ess"] / (first["compile_seconds"] + first["seconds"])


def record(problem: Problem, process: Process, seed: int) -> dict:
    """Judge a contestant's draws and return its record; where only a mean or a deviation is off, look once more."""
    found = {
        "problem": problem.name,
        "contestant": process.contestant.name,
        "is_ours": process.contestant.is_ours,
        "settings": process.contestant.settings,
        "not_run": process.not_run,
    }
    if process.not_run is None:
        verdict = process.do("judge")
        if not process.not_run and verdict["suspects"] and verdict["only_suspects"]:
            for again in range(len(process.runs)):
                process.do("run", MOST_RUNS_A_TURN * (seed + 1) + again)
            second = process.do("judge", verdict["suspects"])
            verdict = second | {"first_look": verdict["why"]}
        found |= {"verdict": verdict, "not_run": process.not_run}
    if process.not_run is not None:
        return found
    return found | figures(process.first, process.runs, process.moments)


def figures(first: dict, runs: list[dict], moments: list[dict]) -> dict:
    """Return the medians of ESS a second: sampling only (a), with warm-up (b), and compile included (c).

    Args:
        first: The first run in the process, with ``import_seconds`` and ``compile_seconds``.
        runs: All runs, the first among them; a and b are medians of the later ones, if there are any.
        moments: Runs with the pass over the data done before.

    Returns:
        Figures by name, and the runs that they are of. Where warm-up is not known apart, a is None.
    """
    warm = runs[1:] or runs
    sampling = [
        run["ess"] / (run["seconds"] - run["warmup_seconds"]) for run in warm if run["warmup_seconds"] is not None
    ]
    return {
        "a": statistics.median(sampling) if sampling else None,
        "b": statistics.median(run["ess"] / run["seconds"] for run in warm),
        "c": ess_a_second_of_first(first),
        "b_from_moments": statistics.median(run["ess"] / run["seconds"] for run in moments) if moments else None,
        "seconds": statistics.median(run["seconds"] for run in warm),
        "import_seconds": first["import_seconds"],
        "compile_seconds": first["compile_seconds"],
        "info": runs[-1]["info"],
        "runs": runs,
    }


def started(process: Process) -> str:
    """Return a first run in a line of progress."""
    if process.not_run:
        return f"not run: {process.not_run}"
    parts = [f"{process.first[key]:.2f} s {word}" for key, word in _PARTS]
    return ", ".join(parts) + f", ESS {process.first['ess']:,.0f}"


def summary(found: dict) -> str:
    """Return a record in a line of progress."""
    if found["not_run"]:
        return f"not run: {found['not_run']}"
    speed = ", ".join(f"{name} {found[name]:,.0f}" for name in ("a", "b", "c") if found[name] is not None)
    verdict = found["verdict"]
    return speed + " ESS/s" if verdict["passed"] else f"gate failed: {verdict['why']}"


def is_shown(found: dict) -> bool:
    """Whether a record has figures that may be shown: it ran, and passed every gate."""
    return not found["not_run"] and found["verdict"]["passed"]
