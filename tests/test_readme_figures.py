"""The README's pictures: the command makes them, and those committed are the ones that it makes."""

import importlib.util
import re
from pathlib import Path

import pytest
from pictures import difference, pixels

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "notebooks" / "figures"
NAMES = ["path_with_posterior", "prior_and_penalty", "training_to_the_map"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The pictures, by what the command calls."""
    folder = tmp_path_factory.mktemp("figures")
    found = importlib.util.spec_from_file_location("make_figures", FIGURES / "make.py")
    command = importlib.util.module_from_spec(found)
    found.loader.exec_module(command)
    command.main(folder)
    return folder


def test_every_picture_is_made_and_committed(made):
    for folder in (made, FIGURES):
        assert sorted(file.stem for file in folder.glob("*.png")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_picture_is_the_one_made(made, name):
    """At a sixth of their size, so that neither the draws' error nor the version of a font is seen."""
    found, committed = (folder / f"{name}.png" for folder in (made, FIGURES))
    assert pixels(found).shape == pixels(committed).shape and pixels(committed).shape[1] == 1800
    assert committed.stat().st_size < 600_000
    assert difference(pixels(found, 300), pixels(committed, 300), reach=2, over=3) < 30.0
    others = [FIGURES / f"{other}.png" for other in NAMES if other != name]
    for other in others:  # which another picture would fail
        small = pixels(other, 300)
        low = min(len(small), len(pixels(found, 300)))
        assert difference(pixels(found, 300)[:low], small[:low], reach=2, over=3) > 60.0


def test_the_readme_shows_one_and_says_what_it_shows():
    shown = re.findall(r"!\[([^\]]*)\]\((notebooks/figures/[^)]*)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown and all((ROOT / file).is_file() and len(words) > 100 for words, file in shown)
