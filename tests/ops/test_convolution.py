"""The operator against its equations, summed in float64 by plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gconv.ops.convolution import BOUNDARIES, global_conv, mixing_matrix, smooth_length

LENGTHS = (1, 2, 7, 12, 13, 31, 64)


def most_taps(length, boundary):
    return 2 * length - 1 if boundary == "bidirectional" else length


def cases():
    for boundary in BOUNDARIES:
        for length in LENGTHS:
            most = most_taps(length, boundary)
            for taps in sorted({1, min(3, most), most}):
                yield boundary, length, taps


def data(length, taps, batch=2, channels=3):
    rng = np.random.default_rng([length, taps])
    return (
        rng.standard_normal((batch, length, channels)),
        rng.standard_normal((taps, channels)),
        rng.standard_normal((batch, length, channels)),
    )


def summed(x, kernel, dy, boundary):
    """y, dx and dkernel in float64, term by term from the definitions."""
    length, taps, r = x.shape[1], len(kernel), (len(kernel) - 1) // 2
    y, dx, dkernel = np.zeros_like(x), np.zeros_like(x), np.zeros_like(kernel)
    for t in range(length):
        for k in range(taps):
            s = {"circular": (t + k) % length, "causal": t - k, "bidirectional": t - (k - r)}[boundary]
            if 0 <= s < length:
                y[:, t] += kernel[k] * x[:, s]
                dx[:, s] += kernel[k] * dy[:, t]
                dkernel[k] += np.sum(x[:, s] * dy[:, t], axis=0)
    return y, dx, dkernel


@pytest.mark.parametrize("method", ["auto", "fft", "direct", "reference"])
@pytest.mark.parametrize("boundary, length, taps", list(cases()))
def test_value_and_gradients_equal_the_float64_sum(boundary, length, taps, method):
    x, kernel, dy = data(length, taps)

    @jax.jit
    def value_and_gradients(x, kernel, dy):
        y, pull = jax.vjp(lambda x, kernel: global_conv(x, kernel, boundary=boundary, method=method), x, kernel)
        return y, *pull(dy)

    ours = value_and_gradients(*(jnp.asarray(a, jnp.float32) for a in (x, kernel, dy)))
    for name, mine, exact in zip(("y", "dx", "dkernel"), ours, summed(x, kernel, dy, boundary), strict=True):
        assert mine.dtype == jnp.float32
        error = np.linalg.norm(mine - exact) / np.linalg.norm(exact)
        assert error < 2e-6, f"{name}: relative error {error}"


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("length", [4093, 4096])  # a prime, and a power of two
def test_long_sequences_stay_exact(boundary, length):
    x, kernel, dy = data(length, most_taps(length, boundary), batch=1, channels=2)

    def value_and_gradients(*operands):
        y, pull = jax.vjp(lambda x, k: global_conv(x, k, boundary=boundary), *operands[:2])
        return y, *pull(operands[2])

    with jax.enable_x64(True):
        exact = value_and_gradients(*map(jnp.asarray, (x, kernel, dy)))
        assert exact[0].dtype == jnp.float64
    ours = value_and_gradients(*(jnp.asarray(a, jnp.float32) for a in (x, kernel, dy)))
    for mine, best in zip(ours, exact, strict=True):
        assert np.linalg.norm(mine - np.asarray(best)) / np.linalg.norm(best) < 2e-6


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_float64_is_computed_in_float64(boundary):
    x, kernel, dy = data(13, most_taps(13, boundary))
    with jax.enable_x64(True):
        y, pull = jax.vjp(lambda x, k: global_conv(x, k, boundary=boundary, method="fft"), jnp.asarray(x), kernel)
        for mine, exact in zip((y, *pull(jnp.asarray(dy))), summed(x, kernel, dy, boundary), strict=True):
            np.testing.assert_allclose(mine, exact, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_transformed_in_float32(dtype):
    x, kernel, _ = data(64, 64)
    x = jnp.asarray(x, dtype)
    y = global_conv(x, jnp.asarray(kernel, jnp.float32))
    assert y.dtype == dtype
    exact = global_conv(x.astype(jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_array_equal(y, exact.astype(dtype))


def test_circular_layer_commutes_with_rotation_and_causal_does_not():
    x, kernel, _ = (jnp.asarray(a, jnp.float32) for a in data(12, 12))
    for boundary, commutes in (("circular", True), ("causal", False)):
        rotated = global_conv(jnp.roll(x, 5, axis=1), kernel, boundary=boundary)
        assert (
            np.allclose(rotated, jnp.roll(global_conv(x, kernel, boundary=boundary), 5, axis=1), atol=1e-5) == commutes
        )


def test_causal_outputs_have_no_gradient_from_the_future():
    x, kernel, _ = (jnp.asarray(a, jnp.float32) for a in data(9, 9, batch=1, channels=1))
    jacobian = jax.jacrev(lambda x: global_conv(x, kernel, boundary="causal", method="direct"))(x)[0, :, 0, 0, :, 0]
    assert not np.triu(jacobian, 1).any() and np.tril(jacobian).any()
    by_fft = jax.jacrev(lambda x: global_conv(x, kernel, boundary="causal", method="fft"))(x)[0, :, 0, 0, :, 0]
    np.testing.assert_allclose(by_fft, jacobian, atol=1e-5)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_transformations_of_the_fft_method_equal_those_of_the_reference(boundary):
    x, kernel, _ = (jnp.asarray(a, jnp.float32) for a in data(6, most_taps(6, boundary), batch=2, channels=2))

    def loss(method, x, kernel):
        return jnp.sum(jnp.sin(global_conv(x, kernel, boundary=boundary, method=method)))

    def results(method):
        f = lambda x, kernel: loss(method, x, kernel)  # noqa: E731
        kernels = jnp.stack([kernel, 2 * kernel])
        return {
            "hessian": jax.hessian(f, argnums=(0, 1))(x, kernel),
            "reverse over reverse": jax.jacrev(jax.grad(f, argnums=1), argnums=0)(x, kernel),
            "vmap over kernels": jax.vmap(jax.grad(f), in_axes=(None, 0))(x, kernels),
            "vmap over the batch": jax.vmap(lambda x: f(x[None], kernel))(x),
            "checkpoint": jax.grad(jax.checkpoint(f), argnums=(0, 1))(x, kernel),
            "linearize": jax.linearize(f, x, kernel)[1](x, kernel),
        }

    exact = results("reference")
    for name, mine in results("fft").items():
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(exact[name]), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name)


def test_mixing_matrix_is_circulant_or_toeplitz():
    kernel = jnp.arange(1.0, 5.0)[:, None]
    circulant = mixing_matrix(kernel, 4, "circular")[..., 0]
    np.testing.assert_array_equal(circulant, [[1, 2, 3, 4], [4, 1, 2, 3], [3, 4, 1, 2], [2, 3, 4, 1]])
    causal = mixing_matrix(kernel, 4, "causal")[..., 0]
    np.testing.assert_array_equal(causal, [[1, 0, 0, 0], [2, 1, 0, 0], [3, 2, 1, 0], [4, 3, 2, 1]])
    both = mixing_matrix(kernel[:3], 4, "bidirectional")[..., 0]
    np.testing.assert_array_equal(both, [[2, 1, 0, 0], [3, 2, 1, 0], [0, 3, 2, 1], [0, 0, 3, 2]])


def test_smooth_lengths():
    assert [smooth_length(n) for n in (1, 7, 11, 13, 31, 4093, 8191)] == [1, 8, 12, 15, 32, 4096, 8192]


def test_one_tap_takes_the_direct_method_and_more_the_fft():
    x = jnp.ones((1, 8, 2))

    def primitives(taps):
        return str(jax.make_jaxpr(global_conv)(x, jnp.ones((taps, 2))))

    assert "conv_general_dilated" in primitives(1) and "rfft" not in primitives(1)
    assert "rfft" in primitives(2) and "conv_general_dilated" not in primitives(2)


X, K = jnp.ones((2, 8, 3)), jnp.ones((8, 3))


@pytest.mark.parametrize(
    "x, kernel, options, message",
    [
        (X[0], K, {}, r"x must be \(batch, length, channels\); got shape \(8, 3\)"),
        (X, K[:, 0], {}, r"kernel must be \(taps, channels\); got shape \(8,\)"),
        (X, K[:, :2], {}, r"kernel has 2 channels, x has 3: \(8, 2\) against \(2, 8, 3\)"),
        (X, jnp.ones((9, 3)), {}, r"1 to 8 taps for a circular boundary .* got 9: kernel \(9, 3\), x \(2, 8, 3\)"),
        (X, jnp.ones((17, 3)), {"boundary": "bidirectional"}, r"1 to 15 taps .* got 17"),
        (X, jnp.ones((0, 3)), {}, r"1 to 8 taps .* got 0"),
        (X, K, {"boundary": "bidirectional"}, r"kernel must have an odd number of taps.*\(8, 3\)"),
        (X, K, {"boundary": "zero"}, "boundary must be one of circular, causal, bidirectional; got 'zero'"),
        (X, K, {"method": "winograd"}, "method must be one of auto, fft, direct, reference; got 'winograd'"),
        (X.astype(jnp.int32), K, {}, "x must be floating; got dtype int32"),
        (X, K.astype(jnp.complex64), {}, "kernel must be floating; got dtype complex64"),
    ],
)
def test_bad_arguments_are_named_with_their_shapes(x, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        global_conv(x, kernel, **options)
