"""Products made in panels and tiles: what they are, and that their digits are the same on any number of threads."""

import numpy as np
import pytest

from bayesreg.computing import products, threads
from bayesreg.computing.products import gram_of, product_of

random = np.random.default_rng(0)
LEFT, RIGHT = random.standard_normal((37, 23)), random.standard_normal((23, 41))
PRODUCTS = {
    "product_of": (lambda: product_of(LEFT, RIGHT), np.einsum("ik,kj->ij", LEFT, RIGHT)),
    "gram_of": (lambda: gram_of(RIGHT), np.einsum("ki,kj->ij", RIGHT, RIGHT)),
}


@pytest.mark.parametrize("panels", [1, 6, 50])  # of 50 some are empty
@pytest.mark.parametrize("name", PRODUCTS)
def test_pieces_make_the_product_on_any_number_of_threads(name, panels, monkeypatch):
    make, expected = PRODUCTS[name]
    assert make() == pytest.approx(expected, abs=1e-13)
    monkeypatch.setattr(products, "WIDE", 2)
    monkeypatch.setattr(products, "_WORTH_THREADS", 0)
    monkeypatch.setattr(products, "_PANELS", panels)
    found = []
    for number in (1, 2, 5):
        monkeypatch.setattr(threads, "num_threads", lambda number=number: number)
        found.append(make())
    assert found[0] == pytest.approx(expected, abs=1e-13)
    assert all(np.array_equal(other, found[0]) for other in found[1:])


@pytest.mark.parametrize("shape", [(60, 30), (30, 450), (700, 400), (90, 1001)])
def test_second_moments_are_symmetric_to_the_last_digit(shape, monkeypatch):
    monkeypatch.setattr(products, "_WORTH_THREADS", 0)  # from the width on, in tiles
    rows = random.standard_normal((shape[0], shape[1] + 1))[:, :-1]  # strided, as where a target stands beside them
    gram = gram_of(rows)
    assert np.array_equal(gram, gram.T)
    assert gram == pytest.approx(np.einsum("ki,kj->ij", rows, rows), abs=1e-11)
