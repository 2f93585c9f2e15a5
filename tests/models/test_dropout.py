import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gconv.models.dropout import drop_out


@pytest.mark.parametrize("shape", [(64, 512), (64, 513), (32769,)])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_values_are_dropped_alone_at_the_rate(shape, rate):
    y = np.asarray(drop_out(jnp.ones(shape), rate, jax.random.key(0)))
    kept = (y != 0).ravel()
    np.testing.assert_allclose(y.ravel()[kept], 1 / (1 - rate), rtol=1e-4)
    error = 4 * np.sqrt(rate * (1 - rate) / kept.size)  # four standard deviations
    assert np.mean(kept) == pytest.approx(1 - rate, abs=error)
    for lag in (1, 2, 256):  # two of a word, and neighbouring words
        together = np.mean(kept[lag:] & kept[:-lag])
        assert together == pytest.approx((1 - rate) ** 2, abs=2 * error)


def test_the_gradient_has_the_same_mask_and_every_key_another():
    x = jnp.ones((4, 6), jnp.bfloat16)
    y, vjp = jax.vjp(lambda x: drop_out(x, 0.5, jax.random.key(0)), x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(vjp(x)[0], y)
    assert np.any(y != drop_out(x, 0.5, jax.random.key(1)))


def test_nothing_is_dropped_without_a_key_or_a_rate():
    x = jnp.arange(3.0)
    assert drop_out(x, 0.5, None) is x
    assert drop_out(x, 0.0, jax.random.key(0)) is x
    np.testing.assert_array_equal(drop_out(x, 1e-6, jax.random.key(0)), x)  # nearer to none than to one of 2¹⁶
    assert np.all(np.isfinite(drop_out(x, 1 - 1e-9, jax.random.key(0))))
    assert drop_out(jnp.ones((0, 3)), 0.5, jax.random.key(0)).shape == (0, 3)


def test_bfloat16_is_scaled_before_it_is_rounded():
    x = jax.random.uniform(jax.random.key(1), (256, 256), jnp.bfloat16, 1.0, 2.0)
    y = drop_out(x, 0.1, jax.random.key(0)).astype(jnp.float32)
    ratio = jnp.sum(y) / jnp.sum(jnp.where(y != 0, x, 0).astype(jnp.float32))
    assert ratio == pytest.approx(1 / 0.9, rel=2e-4)  # rounded itself, the factor would be 1.6e-3 off
