import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gconv.models.linear import BatchNorm, LayerNorm


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


@pytest.mark.parametrize("layout", ["blc", "bcl"])
def test_a_batch_norm_equals_pytorchs(layout):
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.BatchNorm1d(6, eps=1e-6), BatchNorm(6, layout=layout, dtype=jnp.float32)
    ours.scale[...], ours.bias[...] = jnp.linspace(0.5, 2, 6), jnp.linspace(-1, 1, 6)
    rng = np.random.default_rng(0)
    order = (0, 1, 2) if layout == "bcl" else (0, 2, 1)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(np.array(ours.scale[...])))
        theirs.bias.copy_(torch.tensor(np.array(ours.bias[...])))
    for _ in range(3):
        x, dy = (3 * rng.standard_normal((2, 5, 6, 7)) + 2).astype(np.float32)
        graph, params = nnx.split(ours)

        def apply(params, x, graph=graph):
            norm = nnx.merge(graph, params)
            return norm(x, None, True), nnx.state(norm, nnx.BatchStat)

        y, pull, averages = jax.vjp(apply, params, jnp.transpose(x, order), has_aux=True)
        dparams, dx = pull(jnp.transpose(dy, order))
        nnx.update(ours, averages)
        x = torch.tensor(x, requires_grad=True)
        expected = theirs(x)
        theirs.zero_grad()
        expected.backward(torch.tensor(dy))
        for a, b in ((y, expected), (dx, x.grad)):
            np.testing.assert_allclose(jnp.transpose(a, order), b.detach(), atol=2e-5)
        np.testing.assert_allclose(dparams["scale"][...], theirs.weight.grad, atol=2e-4)
        np.testing.assert_allclose(dparams["bias"][...], theirs.bias.grad, atol=2e-4)
        assert not dparams["mean"][...].any() and not dparams["variance"][...].any()
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean, rtol=1e-5)
    unbiased = 0.9**3 + (theirs.running_var - 0.9**3) * (34 / 35)  # PyTorch averages Σ(x − mean)² / (n − 1)
    np.testing.assert_allclose(ours.variance[...], unbiased, rtol=1e-5)
    # in use: the running averages, theirs of another variance
    found = jnp.transpose(ours(jnp.transpose(x.detach().numpy(), order)), order)
    theirs.running_var.copy_(unbiased)
    np.testing.assert_allclose(found, theirs.eval()(x).detach(), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_norm_counts_real_positions_only(dtype):
    x = (jax.random.normal(jax.random.key(0), (3, 5, 8)) + 1).astype(dtype)
    mask = jnp.arange(5) < jnp.array([5, 2, 3])[:, None]
    padded, alone = (BatchNorm(8, layout="blc", dtype=jnp.float32) for _ in range(2))
    y = padded(jnp.where(mask[..., None], x, 100), mask, True)
    expected = alone(x[mask][None], None, True)[0]
    np.testing.assert_allclose(y[mask], expected, atol=1e-5)
    for name in ("mean", "variance"):
        np.testing.assert_allclose(getattr(padded, name)[...], getattr(alone, name)[...], rtol=1e-5)
