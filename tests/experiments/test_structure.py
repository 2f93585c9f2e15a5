import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import structure

RECORDS = Path(__file__).parents[2] / "experiments/records/interactions"
# Which pairs interact: within a channel, across channels, the same for steps of 1; and whether shifts commute.
EXPECTED = {
    "convolution": (0, 0, 0, 0, 1),
    "convolution, convolution": (0, 0, 0, 0, 1),
    "convolution, ReLU, convolution": (0, 0, 1, 0, 1),  # but at the kinks
    "convolution, GELU, convolution (the question's)": (1, 0, 1, 0, 1),
    "convolution, GELU, pointwise, convolution": (1, 0, 1, 0, 1),  # mixing comes after the only curve
    "convolution, GELU, pointwise, convolution, GELU": (1, 1, 1, 1, 1),
    "convolution, pointwise, GELU, convolution": (1, 1, 1, 1, 1),
    "convolution, GELU, gated linear unit (gconv's block)": (1, 1, 1, 1, 1),
    "gate: x ⊙ convolution": (1, 0, 1, 0, 1),
    "token perceptron (MLP-Mixer)": (1, 0, 1, 0, 0),
    "attention, no positions": (1, 1, 1, 1, 1),
}


@pytest.fixture(scope="module")
def rows():
    with jax.enable_x64(True):
        return {row.name: row for row in structure.measure()}


@pytest.mark.parametrize("name", EXPECTED)
def test_which_pairs_of_tokens_interact(rows, name):
    row = rows[name]
    for value, expected in zip(row[1:5], EXPECTED[name][:4], strict=True):
        assert value > 0.01 if expected else value < 1e-12
    assert row.equivariant == bool(EXPECTED[name][4]) and set(rows) == set(EXPECTED)


def test_attention_alone_commutes_with_any_permutation():
    order = np.random.default_rng(0).permutation(structure.LENGTH)
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).standard_normal((structure.LENGTH, structure.CHANNELS)))
        commutes = {name: bool(jnp.allclose(f(x)[order], f(x[order]))) for name, f in structure.maps().items()}
    assert [name for name, does in commutes.items() if does] == ["attention, no positions"]


def test_derivatives_and_steps_of_a_product_are_its_coefficient():
    def product(x):  # 3 x[0, 0] x[1, 0] + 5 x[2, 0] x[3, 1], whose differences are its derivatives
        return jnp.zeros_like(x).at[0, 0].set(3 * x[0, 0] * x[1, 0] + 5 * x[2, 0] * x[3, 1] + x[0, 0] ** 2)

    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 2)))
        np.testing.assert_allclose(structure.pairs(product, x), (3, 5), rtol=1e-10)
        np.testing.assert_allclose(structure.steps(product, x), (3, 5), rtol=1e-10)


def test_the_published_table_is_that_of_its_record(rows):
    record = [structure.Row(*row) for row in json.loads((RECORDS / "structure.json").read_text())]
    assert structure.table(record) == (RECORDS / "structure.md").read_text()
    for row in record:
        np.testing.assert_allclose(row[1:5], rows[row.name][1:5], rtol=1e-6, atol=1e-9)
