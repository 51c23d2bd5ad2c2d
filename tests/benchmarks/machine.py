"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path

PACKAGES = ("bayesreg", "torch", "numpy", "pyro-ppl", "numpyro", "jax", "nutpie", "pymc", "arviz-stats")


def describe(device: str, root: Path) -> dict:
    """Return the processor, the accelerator where one is used, versions, the commit and the day.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        root: The repository's root.

    Returns:
        Plain values.
    """
    found = {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "date": date.today().isoformat(),
        "commit": _commit(root),
        "load": round(os.getloadavg()[0], 2),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": device,
    }
    if device != "cpu":
        import torch

        found["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return found


def file_name(machine: dict) -> str:
    """Return a file's name, without its end, for the machine's figures."""
    words = machine.get("gpu") or f"{machine['cpu']} {machine['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(root: Path) -> str:
    """Return the commit, with a plus where files differ from it."""
    words = [["git", "rev-parse", "--short", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"]]
    head, changes = (subprocess.run(one, cwd=root, capture_output=True, text=True).stdout.strip() for one in words)
    return head + ("+" if changes else "")
