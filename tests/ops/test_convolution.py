"""The operator against its equations, summed in float64 by plain loops."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gconv.ops import convolution, spectral
from gconv.ops.convolution import BOUNDARIES, LAYOUTS, global_conv, mixing_matrix
from gconv.ops.spectral import Lags, by_matrices, plan_here, smooth_length

LENGTHS = (1, 2, 7, 12, 31, 64)


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


@pytest.fixture
def method(request, monkeypatch):
    """A method of global_conv; "paired" is its FFT with the transforms and the padded circles of long sequences."""
    if request.param != "paired":
        yield request.param
        return
    monkeypatch.setattr(spectral, "LONGEST_TWISTED", 0)
    monkeypatch.setattr(convolution, "LARGEST_FAST_PRIME", 2)
    spectral._partitioned.cache_clear()
    yield "fft"
    spectral._partitioned.cache_clear()


@pytest.mark.parametrize("method", ["auto", "fft", "paired", "matmul", "shift", "direct", "matrix"], indirect=True)
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
        assert error < 1e-6, f"{name}: relative error {error}"


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
@pytest.mark.parametrize("length, share", [(12, 1), (12, 0.3), (37, 1), (37, 0.3), (1009, 1)])
def test_every_form_of_transform_in_the_other_layout(boundary, batch, length, share, monkeypatch):
    """One row and several; full and short kernels; lengths to pad and not."""
    monkeypatch.setattr(convolution, "LARGEST_FAST_PRIME", 31)
    taps = int(share * most_taps(length, boundary)) // 2 * 2 + 1
    x, kernel, dy = data(length, min(taps, most_taps(length, boundary)), batch)

    def value_and_gradients(x, kernel, dy):
        y, pull = jax.vjp(lambda x, k: global_conv(x, k, boundary=boundary, layout="bcl", method="fft"), x, kernel)
        return y, *pull(dy)

    ours = jax.jit(value_and_gradients)(*(jnp.asarray(np.swapaxes(a, -1, -2), jnp.float32) for a in (x, kernel, dy)))
    exact = value_and_gradients_by_matrix(x, kernel, dy, boundary)
    for name, mine, best in zip(("y", "dx", "dkernel"), ours, exact, strict=True):
        error = np.linalg.norm(np.swapaxes(mine, -1, -2) - best) / np.linalg.norm(best)
        assert error < 1e-6, f"{name}: relative error {error}"


def value_and_gradients_by_matrix(x, kernel, dy, boundary):
    """The same in float64 through the mixing matrix, which is linear in the kernel."""
    length, taps = x.shape[1], len(kernel)
    t, s = np.arange(length)[:, None], np.arange(length)[None]
    tap = {"circular": (s - t) % length, "causal": t - s, "bidirectional": t - s + taps // 2}[boundary]
    inside = (tap >= 0) & (tap < taps)
    y, dx, dkernel = np.zeros_like(x), np.zeros_like(x), np.zeros_like(kernel)
    for c in range(x.shape[2]):
        matrix = np.where(inside, kernel[np.clip(tap, 0, taps - 1), c], 0)
        y[..., c], dx[..., c] = x[..., c] @ matrix.T, dy[..., c] @ matrix
        dkernel[:, c] = np.bincount(tap[inside], (dy[..., c].T @ x[..., c])[inside], taps)
    return y, dx, dkernel


@pytest.mark.parametrize(
    "length, taps, lags, transform",
    [
        (64, 64, Lags(0, circular=True), ("real", 64)),
        (64, 64, Lags(0, circular=False), ("twisted", 64)),
        (64, 127, Lags(-63, circular=False), ("twisted", 64)),
        (61, 61, Lags(0, circular=False), ("real", 125)),
        (64, 17, Lags(0, circular=False), ("real", 80)),
        (64, 17, Lags(-8, circular=False), ("real", 72)),
        (2700, 2700, Lags(0, circular=False), ("twisted", 2700)),
        (3500, 3500, Lags(0, circular=False), ("paired", 3600)),
        (8192, 16383, Lags(-8191, circular=False), ("paired", 8192)),
        (8192, 9, Lags(-4, circular=False), ("real", 8640)),
    ],
)
def test_the_transform_with_fewest_points_is_taken(length, taps, lags, transform):
    assert plan_here(length, taps, lags, "fft")[: len(transform)] == transform


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", ["fft", "shift"])
def test_a_row_that_is_not_finite_leaves_the_others_alone(boundary, method):
    x, kernel = (a.astype(np.float32) for a in data(16, 3, batch=4)[:2])
    alone = global_conv(x, kernel, boundary=boundary, method=method)
    x[1, 3] = np.inf
    beside = global_conv(x, kernel, boundary=boundary, method=method)
    others = np.array([0, 2, 3])
    np.testing.assert_array_equal(beside[others], alone[others])
    assert not np.isfinite(beside[1]).all()


@pytest.mark.parametrize("method, transforms", [("fft", 6), ("paired", 12)], indirect=["method"])
def test_the_gradient_transforms_neither_x_nor_the_kernel_again(method, transforms):
    """x, kernel and y forward, dy, dx and dkernel back: the compiler keeps the spectra of the forward pass."""
    x, kernel = jnp.ones((4, 3, 64)), jnp.ones((3, 127))

    def loss(x, kernel):
        return jnp.sum(jnp.sin(global_conv(x, kernel, boundary="bidirectional", layout="bcl", method=method)))

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).compile()
    assert len(re.findall(r" fft\(", compiled.as_text())) == transforms


@functools.partial(jax.jit, static_argnames=("boundary", "layout"))
def value_and_gradients(x, kernel, dy, boundary, layout="blc"):
    y, pull = jax.vjp(lambda x, kernel: global_conv(x, kernel, boundary=boundary, layout=layout), x, kernel)
    return y, *pull(dy)


def errors(operands, *options):
    """Of y, dx and dkernel in float32, relative to the norms of what float64 gives."""
    with jax.enable_x64(True):
        exact = value_and_gradients(*map(jnp.asarray, operands), *options)
        assert exact[0].dtype == jnp.float64
    ours = value_and_gradients(*(jnp.asarray(a, jnp.float32) for a in operands), *options)
    return [np.linalg.norm(a - np.asarray(b)) / np.linalg.norm(b) for a, b in zip(ours, exact, strict=True)]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("length, taps", [(4093, 0), (4096, 0), (1031, 3)])  # a prime and a power of two; 0: all
def test_long_sequences_stay_exact(boundary, length, taps):
    assert max(errors(data(length, taps or most_taps(length, boundary), batch=1, channels=2), boundary)) < 1e-6


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_gradient_of_few_taps_is_summed_in_parts(boundary):
    """At once it is wrong by some 8e-7."""
    operands = [np.ascontiguousarray(np.swapaxes(a, -1, -2)) for a in data(65_536, 3, batch=1, channels=16)]
    assert max(errors(operands, boundary, "bcl")) < 5e-7


@pytest.mark.parametrize("remat, most", [(False, 3.4), (True, 2.5)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("length", [1024, 4096])  # twisted and paired transforms, where it isn't circular
def test_a_stack_of_layers_keeps_little_for_its_gradient(length, boundary, layout, remat, most):
    """Temporary memory of eight layers in a scan, forward and backward, a layer: in multiples of x."""
    layers, batch, channels = 8, 8, 16
    taps = 2 * length - 1 if boundary == "bidirectional" else length
    shapes = [(batch, channels, length), (layers, channels, taps)]
    if layout == "blc":
        shapes = [(batch, length, channels), (layers, taps, channels)]
    x, kernels = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)

    def layer(x, kernel):
        y = global_conv(x, kernel, boundary=boundary, layout=layout)
        return x + jax.checkpoint(jax.nn.gelu)(y), None  # as in the models, which keep y alone for it

    def loss(x, kernels):
        return jnp.sum(jnp.square(jax.lax.scan(jax.checkpoint(layer) if remat else layer, x, kernels)[0]))

    memory = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernels).compile().memory_analysis()
    assert memory.temp_size_in_bytes / layers <= most * 4 * batch * channels * length


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", ["fft", "paired"], indirect=True)
def test_float64_is_computed_in_float64(boundary, method):
    x, kernel, dy = data(13, most_taps(13, boundary))
    with jax.enable_x64(True):
        y, pull = jax.vjp(lambda x, k: global_conv(x, k, boundary=boundary, method=method), jnp.asarray(x), kernel)
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


@pytest.mark.parametrize("n", [1, 7, 12, 64, 97, 1000])
def test_two_matrix_products_are_the_transform(n):
    x = np.random.default_rng(0).standard_normal((2, n)) + 1j * np.random.default_rng(1).standard_normal((2, n))
    found = by_matrices(jnp.asarray(x, jnp.complex64))
    n1 = max(d for d in range(1, n + 1) if n % d == 0 and d * d <= n)
    order = (np.arange(n1)[:, None] + n1 * np.arange(n // n1)).ravel()
    np.testing.assert_allclose(found, np.fft.fft(x)[:, order], atol=2e-6 * n)
    np.testing.assert_allclose(by_matrices(found, inverse=True), x, atol=5e-6)


@pytest.mark.parametrize("method, boundary", [
    *itertools.product(["fft", "matmul"], BOUNDARIES), ("fused", "causal"), ("fused", "bidirectional"),
])  # fmt: skip
def test_transformations_of_the_fft_methods_equal_those_of_the_matrix(method, boundary):
    x, kernel, _ = (jnp.asarray(a, jnp.float32) for a in data(6, most_taps(6, boundary), batch=2, channels=2))

    def loss(method, x, kernel):
        return jnp.sum(jnp.sin(global_conv(x, kernel, boundary=boundary, method=method)))

    @functools.partial(jax.jit, static_argnums=0)
    def results(method, x, kernel):
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

    exact = results("matrix", x, kernel)
    for name, mine in results(method, x, kernel).items():
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


def test_few_taps_are_shifted_short_sequences_multiplied_by_a_matrix_and_others_transformed():
    def primitives(taps, length):
        return str(jax.make_jaxpr(global_conv)(jnp.ones((1, length, 2)), jnp.ones((taps, 2))))

    longest = convolution.LONGEST_MATRIX
    shifted, multiplied = primitives(convolution.MOST_SHIFTS, 8), primitives(convolution.MOST_SHIFTS + 1, longest)
    assert "global_conv" not in shifted and "dot_general" not in shifted
    assert "global_conv" not in multiplied and "dot_general" in multiplied
    assert "global_conv" in primitives(convolution.MOST_SHIFTS + 1, longest + 1)
    assert "global_conv" not in primitives(convolution.MOST_SHIFTS, longest + 1)


def test_a_length_with_a_large_prime_is_padded():
    def points(length):
        lowered = jax.jit(global_conv).lower(jnp.ones((2, length, 1)), jnp.ones((length, 1))).as_text()
        return {int(n) for n in re.findall(r"stablehlo.fft .* length = \[(\d+)\]", lowered)}

    assert points(2039) == {2048} and points(4093) == {4096, 2048} and points(4092) == {4092}  # 4093 in a pair
    assert [convolution.largest_prime_factor(n) for n in (1, 2, 12, 97, 1022, 4093)] == [1, 2, 3, 97, 73, 4093]


X, K = jnp.ones((2, 8, 3)), jnp.ones((8, 3))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("method", ["fft", "matmul", "shift", "direct", "matrix"])
def test_a_batch_of_none_has_gradients_of_zero(boundary, method):
    none, kernel = jnp.zeros((0, 32, 3)), jnp.ones((31, 3))
    loss = lambda x, k: jnp.sum(global_conv(x, k, boundary=boundary, method=method))  # noqa: E731
    dx, dkernel = jax.grad(loss, (0, 1))(none, kernel)
    assert dx.shape == none.shape and np.array_equal(dkernel, np.zeros((31, 3)))


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
        (
            X,
            K,
            {"method": "winograd"},
            "method must be one of auto, fft, matmul, fused, shift, direct, matrix; got 'winograd'",
        ),
        (X, K, {"layout": "lbc"}, "layout must be one of blc, bcl; got 'lbc'"),
        (X[0], K, {"layout": "bcl"}, r"x must be \(batch, channels, length\); got shape \(8, 3\)"),
        (X, K.T, {"layout": "bcl"}, r"kernel has 3 channels, x has 8: \(3, 8\) against \(2, 8, 3\)"),
        (X.astype(jnp.int32), K, {}, "x must be floating; got dtype int32"),
        (X, K.astype(jnp.complex64), {}, "kernel must be floating; got dtype complex64"),
    ],
)
def test_bad_arguments_are_named_with_their_shapes(x, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        global_conv(x, kernel, **options)


@pytest.mark.parametrize("taps, length, dtype, capability, method", [
    (8, 1024, "bfloat16", 9.0, "shift"), (9, 1024, "bfloat16", 9.0, "fused"), (4096, 4096, "bfloat16", 9.0, "fused"),
    (16, 8192, "bfloat16", 9.0, "shift"), (17, 8192, "bfloat16", 9.0, "fused"), (99, 16384, "bfloat16", 9.0, "fft"),
    (1000, 1000, "bfloat16", 9.0, "fft"), (1024, 1024, "float16", 9.0, "fft"), (1024, 1024, "bfloat16", 8.0, "fft"),
    (1024, 1024, "bfloat16", 0.0, "fft"), (1024, 1024, "bfloat16", 12.0, "fft"),
    (16, 1024, "bfloat16", 8.0, "shift"), (16, 1024, "float32", 9.0, "shift"),
    (17, 1024, "float32", 9.0, "fft"), (16, 16, "float32", 9.0, "shift"),
])  # fmt: skip
def test_what_auto_takes_on_a_gpu(taps, length, dtype, capability, method, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(convolution, "cuda_capability", lambda: capability)
    assert convolution.fastest_method(taps, length, jnp.dtype(dtype), "circular") == method


def test_a_line_is_padded_for_the_fused_kernel_where_little_is_added(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(convolution, "cuda_capability", lambda: 9.0)
    of_length = {n: convolution.fastest_method(n, n, jnp.dtype("bfloat16"), "causal") for n in (3000, 4000, 8193)}
    assert of_length == {3000: "fft", 4000: "fused", 8193: "fft"}
