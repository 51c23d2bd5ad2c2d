"""What a program does in a process of its own, where nothing is imported yet."""

import json
import subprocess
import sys


def modules_after(program):
    """The names of the modules that are loaded once a program has run; the program must succeed."""
    report = f"{program}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    return set(json.loads(finished.stdout.splitlines()[-1]))
