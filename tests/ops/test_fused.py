import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from gconv.ops import fused, global_conv
from gconv.ops.convolution import BOUNDARIES, LAYOUTS
from gconv.ops.spectral import Lags

RNG = np.random.default_rng(0)


def arrays(length, boundary, taps=None, batch=3, channels=2, dtype=jnp.float32, mean=0.0):
    taps = taps or (2 * length - 1 if boundary == "bidirectional" else length)
    x = jnp.asarray(RNG.standard_normal((batch, channels, length)) + mean, dtype)
    return x, jnp.asarray(RNG.standard_normal((channels, taps)) / np.sqrt(taps), jnp.float32)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    "length, taps", [(256, None), (512, None), (512, 65), (1024, None), (4096, None), (16_384, None)]
)
def test_value_and_gradients_are_the_ffts(boundary, length, taps):
    x, kernel = arrays(length, boundary, taps)
    weights = jnp.asarray(RNG.standard_normal(x.shape), jnp.float32)

    def loss(x, kernel, method):
        return jnp.sum(weights * jnp.sin(global_conv(x, kernel, boundary=boundary, layout="bcl", method=method)))

    found, expected = (jax.value_and_grad(loss, (0, 1))(x, kernel, method) for method in ("fused", "fft"))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * np.abs(b).max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("boundary", ["causal", "bidirectional"])
def test_a_line_of_another_length_is_padded(boundary, layout):
    x, kernel = arrays(200, boundary, mean=3.0)
    x, kernel = (jnp.swapaxes(x, 1, 2), kernel.T) if layout == "blc" else (x, kernel)

    def of(method):
        y, pull = jax.vjp(lambda *a: global_conv(*a, boundary=boundary, layout=layout, method=method), x, kernel)
        return y, *pull(y)

    for a, b in zip(of("fused"), of("fft"), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * np.abs(b).max())


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("batch, in_registers", [(9, 2048), (11, 0)])  # shapes that no other test has traced
def test_a_program_may_take_several_rows(boundary, batch, in_registers, monkeypatch):
    monkeypatch.setattr(fused, "MOST_IN_REGISTERS", in_registers)
    x, kernel = arrays(256, boundary, batch=batch)
    weights = jnp.asarray(RNG.standard_normal(x.shape), jnp.float32)

    def gradients(method):
        pull = jax.vjp(lambda *a: global_conv(*a, boundary=boundary, layout="bcl", method=method), x, kernel)[1]
        return pull(weights)

    monkeypatch.setattr(fused, "PROGRAMS", 2)
    assert fused._blocks(x, 1)[2] == 8
    for a, b in zip(gradients("fused"), gradients("fft"), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * np.abs(b).max())


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("scale, kernel_scale", [(1, 1), (1e6, 1e-22), (1e-8, 1e5)])
def test_bfloat16_is_right_to_its_own_rounding_at_any_scale(boundary, scale, kernel_scale):
    x, kernel = arrays(256, boundary, dtype=jnp.bfloat16)
    x, kernel = x * jnp.bfloat16(scale), kernel * kernel_scale
    dy = jnp.asarray(RNG.standard_normal(x.shape), jnp.bfloat16)

    def of(x, dy, method):
        y, pull = jax.vjp(lambda *a: global_conv(*a, boundary=boundary, layout="bcl", method=method), x, kernel)
        return y, *pull(dy)

    expected = of(x.astype(jnp.float32), dy.astype(jnp.float32), "fft")
    for a, b, bound in zip(of(x, dy, "fused"), expected, (2.5e-3, 2.5e-3, 1e-3), strict=True):
        assert np.linalg.norm(np.asarray(a, np.float32) - b) < bound * np.linalg.norm(b)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_kernel_of_zeros_gives_zeros(boundary):
    """As one that is squashed has them, or a derivative in the direction of another channel's."""
    x, kernel = arrays(256, boundary, mean=1.0)
    y, pull = jax.vjp(
        lambda *a: global_conv(*a, boundary=boundary, layout="bcl", method="fused"), x, kernel.at[0].set(0.0)
    )
    dx, dkernel = pull(jnp.ones_like(y))
    assert not y[:, 0].any() and not dx[:, 0].any() and y[:, 1].any()
    assert np.isfinite(y).all() and np.isfinite(dx).all() and np.isfinite(dkernel).all()


@pytest.mark.parametrize("small", [1e-2, 1e-4])
def test_rows_that_are_one_sequence_may_be_of_any_sizes(small):
    x, kernel = arrays(256, "circular", batch=2, dtype=jnp.bfloat16)
    dy = jnp.asarray(RNG.standard_normal(x.shape), jnp.bfloat16)
    sizes = jnp.array([small, 1.0], jnp.bfloat16)[:, None, None]

    def dkernel(x, dy, method):
        return jax.vjp(lambda k: global_conv(x, k, layout="bcl", method=method), kernel)[1](dy)[0]

    x, dy = x * sizes, dy * sizes[::-1]  # large where the other is small: what counts is the product
    exact = dkernel(x.astype(jnp.float32), dy.astype(jnp.float32), "fft")
    assert np.linalg.norm(dkernel(x, dy, "fused") - exact) < 1e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_second_derivatives(boundary):
    x, kernel = arrays(256, boundary, batch=1, channels=1)
    dx, dk = (jnp.asarray(RNG.standard_normal(a.shape), jnp.float32) for a in (x, kernel))

    def second(method):
        def loss(x, kernel):
            return jnp.sum(global_conv(x, kernel, boundary=boundary, layout="bcl", method=method) ** 3)

        slope = lambda x, k: sum(jnp.vdot(g, d) for g, d in zip(jax.grad(loss, (0, 1))(x, k), (dx, dk), strict=True))  # noqa: E731
        return jax.grad(slope, (0, 1))(x, kernel)

    for a, b in zip(second("fused"), second("fft"), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5 * np.abs(b).max())


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_both_layouts_and_bfloat16(boundary):
    x, kernel = arrays(256, boundary)
    y = global_conv(x, kernel, boundary=boundary, layout="bcl", method="fused")
    blc = global_conv(jnp.swapaxes(x, 1, 2), kernel.T, boundary=boundary, method="fused")
    np.testing.assert_allclose(jnp.swapaxes(blc, 1, 2), y, atol=1e-6)
    half = global_conv(x.astype(jnp.bfloat16), kernel, boundary=boundary, layout="bcl", method="fused")
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), y, atol=0.02 * np.abs(y).max())


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_answer_to_a_mean_is_exact(boundary, mirrored):
    _, kernel = arrays(256, boundary, taps=None if boundary == "circular" else 101)
    lags = Lags(-50 if boundary == "bidirectional" else 0, boundary == "circular", mirrored)
    ones = jnp.broadcast_to(fused._answer_to_ones(kernel, 256, lags), (2, 256))
    tables = fused.tables(256, lags, jnp.float32)
    y = fused.convolve(jnp.full((1, 2, 256), 1000.0), kernel, lags, *tables)
    np.testing.assert_allclose(y[0], 1000 * ones, rtol=1e-6, atol=1e-3)
    matrix_row = jax.vmap(lambda e: fused.convolve(e[None, None], kernel[:1], lags, *tables)[0, 0])(jnp.eye(256))
    np.testing.assert_allclose(matrix_row.sum(0), ones[0], atol=1e-4)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_means_cost_the_kernels_gradient_no_digits(boundary, monkeypatch):
    def rounded(a, b):
        a, b = ([part.astype(jnp.bfloat16).astype(jnp.float32) for part in z] for z in (a, b))
        return a[0] @ b[0] - a[1] @ b[1], a[0] @ b[1] + a[1] @ b[0]

    monkeypatch.setattr(fused, "_matmul", rounded)  # as a GPU's matrix units round their operands
    x, kernel = arrays(256, boundary, batch=5, channels=3)  # a shape that no other test has traced
    dy = jnp.asarray(RNG.standard_normal(x.shape), jnp.float32)

    def error(mean):
        pull = lambda method: jax.vjp(  # noqa: E731
            lambda k: global_conv(x + mean, k, boundary=boundary, layout="bcl", method=method), kernel
        )[1](dy + mean)[0]
        return float(jnp.abs(pull("fused") - pull("fft")).max())

    assert error(0.0) > 0.01 and error(10.0) < 2 * error(0.0)


def an_h100():
    """What jax 0.11 wants to know of before it lowers for a GPU that isn't there."""
    if jax.__version_info__ < (0, 11):
        return contextlib.nullcontext()
    device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    return jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=device))


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("length", [256, 4096, 16384])
def test_forward_and_gradient_lower_for_cuda(boundary, length, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x = jax.ShapeDtypeStruct((4, 8, length), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((8, length - 1), jnp.float32)
    run = functools.partial(global_conv, boundary=boundary, layout="bcl", method="fused")
    gradient = jax.grad(lambda x, k: jnp.sum(run(x, k).astype(jnp.float32) ** 2), (0, 1))
    for f, kernels in ((run, 1), (gradient, 3)):
        with an_h100():
            text = jax.jit(f).trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
        assert text.count("stablehlo.custom_call @__gpu$xla.gpu.triton") == kernels


@pytest.mark.parametrize("boundary", ["circular", "causal"])
def test_no_rows_have_no_answer_and_a_gradient_of_0(boundary):
    x, kernel = arrays(256, boundary, batch=0)
    y, pull = jax.vjp(lambda *a: global_conv(*a, boundary=boundary, layout="bcl", method="fused"), x, kernel)
    dx, dkernel = pull(y)
    assert y.shape == dx.shape == x.shape
    np.testing.assert_array_equal(dkernel, np.zeros_like(kernel))


@pytest.mark.parametrize("length", [128, 384, 32768])
def test_other_lengths_are_refused(length):
    x, kernel = arrays(length, "circular", batch=1, channels=1)
    with pytest.raises(
        ValueError, match=f"circle powers of two from 256 on, and no float64; got length {length}, float32"
    ):
        global_conv(x, kernel, layout="bcl", method="fused")
