import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gconv.models.linear import LayerNorm


@pytest.mark.parametrize("layout", ["blc", "bcl"])
@pytest.mark.parametrize("dtype, mean, error", [("float32", 0, 1e-6), ("float32", 30, 3e-5), ("bfloat16", 3, 3e-5)])
def test_rows_are_normalised(layout, dtype, mean, error):
    axis = 2 if layout == "blc" else 1
    norm = LayerNorm(64, layout=layout, dtype=jnp.float32)
    norm.scale[...], norm.bias[...] = jnp.linspace(0.5, 2, 64), jnp.linspace(-1, 1, 64)
    x = (jax.random.normal(jax.random.key(0), (3, 8, 64)) + mean).astype(dtype)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(2, keepdims=True)) / np.sqrt(exact.var(2, keepdims=True) + 1e-6)
    y = norm(jnp.moveaxis(x, 2, axis))
    np.testing.assert_allclose(jnp.moveaxis(y, axis, 2), exact * norm.scale[...] + norm.bias[...], atol=error)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [0.0, 1.7, 1000.0])
def test_a_row_of_equal_values_becomes_nothing(dtype, value):
    norm = LayerNorm(48, layout="blc", dtype=jnp.float32)
    y, pull = jax.vjp(norm, jnp.full((1, 2, 48), value, dtype))
    np.testing.assert_allclose(y, 0, atol=0.1)
    assert np.all(np.isfinite(pull(jnp.ones_like(y))[0].astype(jnp.float32)))


@pytest.mark.parametrize("layout", ["blc", "bcl"])
@pytest.mark.parametrize("dtype, error", [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_gradients_of_a_norm(layout, dtype, error):
    axis = 2 if layout == "blc" else 1
    graph, params = nnx.split(LayerNorm(16, layout=layout, dtype=jnp.float32))
    x = jnp.moveaxis((2 * jax.random.normal(jax.random.key(0), (3, 8, 16)) + 1).astype(dtype), 2, axis)
    dy = jax.random.normal(jax.random.key(1), x.shape)

    def plain(scale, bias, x):
        x = jnp.moveaxis(x, axis, 2)
        x = (x - x.mean(2, keepdims=True)) / jnp.sqrt(x.var(2, keepdims=True) + 1e-6)
        return jnp.moveaxis(x * scale + bias, 2, axis)

    params = jax.tree.map(lambda a: a + jnp.linspace(0.5, 2, 16), params)
    found, dx = jax.vjp(lambda params, x: nnx.merge(graph, params)(x), params, x)[1](dy)
    scale, bias = params["scale"][...], params["bias"][...]
    expected = jax.vjp(plain, scale, bias, x.astype(jnp.float32))[1](dy)
    assert dx.dtype == x.dtype
    for a, b in zip((found["scale"][...], found["bias"][...], dx.astype(jnp.float32)), expected, strict=True):
        assert np.linalg.norm(a - b) < error * np.linalg.norm(b)
