"""What mixing costs: the formulas, and what is read from them."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments import cost
from experiments.grid import RECORDS
from gconv.models.mixers import Attention, PointwiseGlobalConv
from gconv.training.metrics import read_json


@pytest.fixture(scope="module")
def measured():
    return cost.measure()


def test_costs_are_those_of_the_mixers():
    options = {"dropout": 0.0, "dtype": jnp.float32, "rngs": nnx.Rngs(0)}
    at = cost.flops(64)
    attention = Attention(cost.FEATURES, 64, heads=4, rotary=True, **options).flops(64)
    convolution = PointwiseGlobalConv(cost.FEATURES, 64, boundary="circular", **options).flops(64)
    assert at["attention"][1] * 64 == pytest.approx(attention.fft)
    assert at["direct"][1] * 64 == pytest.approx(convolution.direct)
    assert at["FFT"][1] * 64 == pytest.approx(convolution.fft)
    for costs in at.values():
        assert costs[2] - costs[1] == pytest.approx(2 * 2 * 4 * 256**2)  # two layers, a multiply-add as two


def test_attention_pays_for_as_many_layers_as_the_formulas_say(measured):
    record = measured
    # Alone 4L to 2L; with dense layers 8d + 4L to 4d + 2L: two layers of direct sums, whatever the length.
    for length in cost.LENGTHS:
        assert cost.ratio(record, length, "direct", 0) == cost.ratio(record, length, "direct", 1) == 2
    assert cost.ratio(record, 1024, "direct", 2) == pytest.approx((24 * 256 + 4096) / (20 * 256 + 2048))
    assert cost.ratio(record, 4096, "FFT", 0) == pytest.approx(4 * 4096 / (5 * 12 + 3))
    assert cost.reached(record, "direct", 2, 1) == "always" and cost.reached(record, "direct", 2, 2).startswith(
        "not by"
    )
    assert cost.reached(record, "FFT", 2, 10) == "16,384"


def test_the_length_from_which_the_fft_costs_less():
    first = cost.fft_pays_from()
    assert cost.flops(first)["FFT"][0] < cost.flops(first)["direct"][0]
    assert cost.flops(first - 1)["FFT"][0] >= cost.flops(first - 1)["direct"][0]


def test_memory_is_that_of_what_is_kept(measured):
    """In units of x: attention holds four arrays of scores at once, each of length² a head, and a head is 32 wide."""
    for length, of in ((int(length), of) for length, of in measured["memory"].items()):
        x = cost.BATCH * length * cost.FEATURES * cost.ITEMSIZE
        fft, direct, whole, blocks = (bytes_ / x for bytes_ in of.values())
        assert 4 < fft < 6 and 35 < direct < 35.1
        assert 4 * length / 32 < whole < 4 * length / 32 + 8
        assert blocks < 12 if length == 65_536 else blocks <= whole + 0.1


def test_dense_layers_are_compiled_to_what_the_formulas_say(measured):
    for length, of in measured["operations"].items():
        for name, (arithmetic, _) in of.items():
            relus = cost.BATCH * cost.FEATURES * cost.HIDDEN if "perceptron" in name else 0
            compiled = measured["compiled"][length][name] == arithmetic + relus
            assert compiled or name in ("attention", "global convolution by FFT"), (length, name)


def test_the_published_table_is_that_of_its_record(measured):
    folder = RECORDS / "cost"
    record = read_json(folder / "cost.json")
    assert cost.table(record) == (folder / "cost.md").read_text()
    for part in record.keys() - {"memory"}:
        assert record[part] == measured[part]
    differs = 0.1 if jax.__version_info__ >= (0, 12) else 1e-9  # the record was made before, and XLA isn't the same
    for length, of in record["memory"].items():
        assert measured["memory"][length] == pytest.approx(of, rel=differs)
