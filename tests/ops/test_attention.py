import jax
import jax.numpy as jnp
import numpy as np

from gconv.ops.attention import attention, rotate


def test_attention_equals_its_equation_in_float64():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 5, 4, 6))
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    y = np.zeros_like(q)
    for b in range(2):
        for h in range(4):
            scores = q[b, :, h] @ k[b, :, h].T / np.sqrt(6)
            weights = np.exp(scores) * mask[b]
            y[b, :, h] = weights / weights.sum(1, keepdims=True) @ v[b, :, h]
    ours = attention(*(jnp.asarray(a, jnp.float32) for a in (q, k, v)), jnp.asarray(mask))
    np.testing.assert_allclose(ours, y, atol=1e-5)


def test_rotated_products_depend_on_relative_position_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 8))
    turned_q, turned_k = (rotate(jnp.broadcast_to(a, (1, 10, 1, 8)))[0, :, 0] for a in (q, k))
    products = turned_q @ turned_k.T
    for lag in range(-9, 10):
        diagonal = jnp.diagonal(products, lag)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(products[0, 0], q @ k, rtol=1e-5)
    assert np.abs(products[0, 5] - products[0, 0]) > 1e-2
