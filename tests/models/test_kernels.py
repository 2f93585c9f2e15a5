import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gconv.models import kernels
from gconv.models.kernels import (
    DiagonalKernel,
    DistanceKernel,
    FourierKernel,
    FreeKernel,
    ImplicitKernel,
    KernelParam,
    MultiResolutionKernel,
    MultiScaleKernel,
    taps_of,
)
from gconv.models.mixers import GlobalConv
from gconv.ops.convolution import BOUNDARIES, global_conv

FEATURES, LENGTH = 6, 50
ALL = (FreeKernel, MultiScaleKernel, MultiResolutionKernel, ImplicitKernel, DiagonalKernel, FourierKernel)
OPTIONS = {
    MultiScaleKernel: {"width": 4},
    MultiResolutionKernel: {"width": 8, "terms": 3},
    DiagonalKernel: {"states": 8},
}


def build(kind, boundary="causal", length=LENGTH, **options):
    return kind(FEATURES, length, boundary, **{**OPTIONS.get(kind, {}), **options}, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", ALL)
def test_every_kernel_has_its_taps_and_kernel_parameters_only(kind, boundary):
    kernel = build(kind, boundary)
    assert kernel().shape == (FEATURES, taps_of(LENGTH, boundary)) and kernel().dtype == jnp.float32
    assert all(isinstance(leaf, KernelParam) for _, leaf in nnx.to_flat_state(nnx.state(kernel)))
    moved = jax.grad(lambda state: jnp.sum(nnx.merge(nnx.graphdef(kernel), state)() ** 2))(nnx.state(kernel))
    for path, gradient in nnx.to_flat_state(moved):
        assert jnp.any(gradient[...] != 0), path
        assert jnp.all(jnp.isfinite(gradient[...])), path


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", [MultiScaleKernel, MultiResolutionKernel, ImplicitKernel])
def test_structured_kernels_start_with_norm_1(kind, boundary):
    np.testing.assert_allclose(jnp.linalg.norm(build(kind, boundary)(), axis=1), 1, rtol=1e-5)


def test_pieces_of_a_multi_scale_kernel_start_alike():
    weights = MultiScaleKernel(400, LENGTH, "causal", width=4, rngs=nnx.Rngs(0)).weights[...].reshape(400, 5, 4)
    spread = jnp.std(weights, axis=(0, 2))  # the decay isn't in the weights
    np.testing.assert_allclose(spread, spread.mean(), rtol=0.25)


def test_branches_of_a_multi_resolution_kernel_start_with_halving_shares():
    kernel = MultiResolutionKernel(400, LENGTH, "causal", width=8, terms=3, rngs=nnx.Rngs(0))
    shares = kernel.alphas[:, 0] / kernel.alphas[:, 0, :1]
    np.testing.assert_allclose(shares, np.broadcast_to([1, 1 / 2, 1 / 4, 1 / 8], (400, 4)), rtol=1e-5)
    np.testing.assert_allclose(jnp.std(kernel.series[...], axis=(0, 1, 3)), 1, rtol=0.1)


def test_an_implicit_kernel_starts_uniform_up_to_the_root_of_its_inputs():
    kernel = ImplicitKernel(400, LENGTH, "causal", hidden=100, bands=8, rngs=nnx.Rngs(0))
    bounds = {17: kernel.weights[0], 100: kernel.weights[1]}
    for inputs, weight in bounds.items():
        assert 0.99 < jnp.abs(weight[...]).max() * inputs**0.5 <= 1
        assert jnp.std(weight[...]) == pytest.approx((3 * inputs) ** -0.5, rel=0.05)
    for inputs, bias in zip(bounds, kernel.biases, strict=True):
        assert 0.9 < jnp.abs(bias[...]).max() * inputs**0.5 <= 1
    out = kernel.out[:, 0] / jnp.std(kernel.out[:, 0], axis=1, keepdims=True)  # its scale is the norm's
    assert 1.5 < jnp.abs(out).max() < 2.2


class Signed(DistanceKernel):
    """Distances behind as positive numbers, ahead as negative ones."""

    def at(self, reach, step):
        signs = jnp.array([1.0, -1.0])[: self.sides]
        return jnp.broadcast_to(signs[:, None] * (1 + jnp.arange(reach)), (self.features, self.sides, reach))


def test_each_side_of_a_kernel_lies_where_its_boundary_has_it():
    x = jnp.eye(7)[None, :, 3:4]  # an impulse at 3, whose answer at t has the distance t − 3, plus 1
    behind, ahead = [1, 2, 3, 4], [-4, -3, -2]
    for boundary, answer in {
        "causal": [0, 0, 0, *behind],
        "bidirectional": [*ahead, -1 + 2, 2, 3, 4],
        "circular": [-4, -3, -2, -1, 2, 3, 4],  # lag 0 counts as ahead
    }.items():
        taps = Signed(1, 7, boundary)()
        y = global_conv(x, taps.T, boundary=boundary, method="matrix")[0, :, 0]
        np.testing.assert_allclose(y, answer, err_msg=boundary)
    np.testing.assert_array_equal(Signed(1, 6, "circular")()[0], [-1, -2, -3, -4, 3, 2])


def test_smoothing_averages_neighbouring_taps():
    for boundary in BOUNDARIES:
        raw, smooth = build(FreeKernel, boundary)(), build(FreeKernel, boundary, smooth=2)()
        ends = [raw[:, -2:], raw, raw[:, :2]] if boundary == "circular" else [0 * raw[:, :2], raw, 0 * raw[:, :2]]
        padded = np.concatenate(ends, axis=1)
        mean = np.stack([np.convolve(row, np.ones(5) / 5, mode="valid") for row in padded])
        np.testing.assert_allclose(smooth, mean, atol=1e-6)


def test_without_decay_a_free_kernel_is_flat():
    taps = build(FreeKernel, length=4000, decay=False)()
    assert jnp.std(taps[:, :1000]) == pytest.approx(0.02, rel=0.05) == jnp.std(taps[:, -1000:])


def test_a_multi_scale_kernel_is_its_pieces_stretched_and_joined():
    kernel = build(MultiScaleKernel, width=4, decay=0.7)
    pieces = np.asarray(kernel.weights[...]).reshape(FEATURES, -1, 4)  # causal: one side
    assert pieces.shape[1] == 5  # 4, 4, 8, 16, 32 positions
    joined = [
        0.7**i * np.stack([np.interp((np.arange(4 * s) + 0.5) / s - 0.5, np.arange(4), row) for row in pieces[:, i]])
        for i, s in enumerate((1, 1, 2, 4, 8))
    ]
    np.testing.assert_allclose(kernel(), np.concatenate(joined, axis=1)[:, :LENGTH], atol=1e-6)
    np.testing.assert_array_equal(kernel(80)[:, 64:], 0)


def test_a_multi_resolution_kernel_is_its_sum():
    kernel = build(MultiResolutionKernel, width=8, terms=3)
    series, alphas = (np.asarray(p[...], np.float64)[:, 0] for p in (kernel.series, kernel.alphas))
    assert series.shape == (FEATURES, 4, 6)  # 8, 16, 32, 64 positions
    total = np.zeros((FEATURES, 64))
    for i in range(4):
        r, extent = np.arange(8 * 2**i), 8 * 2**i
        waves = [f(2 * np.pi * m * r / extent) for f in (np.cos, np.sin) for m in range(3)]
        k = series[:, i] @ np.stack(waves)
        total[:, :extent] += alphas[:, i, None] * k / np.linalg.norm(k, axis=1, keepdims=True)
    np.testing.assert_allclose(kernel(), total[:, :LENGTH], atol=1e-6)


def test_an_implicit_kernel_is_its_network():
    kernel = build(ImplicitKernel, hidden=5, bands=2, frequency=3.0)
    r = np.arange(LENGTH) / LENGTH
    z = np.stack([r, np.cos(2 * np.pi * r), np.cos(4 * np.pi * r), np.sin(2 * np.pi * r), np.sin(4 * np.pi * r)])
    for weight, bias in zip(kernel.weights, kernel.biases, strict=True):
        z = np.sin(3.0 * (np.asarray(weight[...]).T @ z + np.asarray(bias[...])[:, None]))
    decay = np.linspace(np.log(100) / 1.5, np.log(100) / 0.3, FEATURES)
    expected = np.exp(-decay[:, None] * r) * (np.asarray(kernel.out[...])[:, 0] @ z)
    np.testing.assert_allclose(kernel(), expected, atol=1e-5)


def test_a_diagonal_kernel_is_the_impulse_response_of_its_recurrence():
    kernel = build(DiagonalKernel)
    step = np.exp(np.asarray(kernel.log_step[...], np.float64))
    a = -np.exp(np.asarray(kernel.log_decay[...], np.float64)) + 1j * np.asarray(kernel.frequency[...])
    c = np.asarray(kernel.c[..., 0] + 1j * kernel.c[..., 1])[:, 0]
    state, impulse = np.zeros_like(a), 1.0
    for t in range(LENGTH):
        state = np.exp(step * a) * state + (np.exp(step * a) - 1) / a * impulse
        np.testing.assert_allclose(kernel()[:, t], 2 * (c * state).sum(axis=1).real, atol=1e-5)
        impulse = 0.0


def test_a_diagonal_kernel_starts_as_s4d_lin():
    kernel = DiagonalKernel(2000, 16, "causal", states=8, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(kernel.frequency[0], np.pi * np.arange(4), rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(kernel.log_decay[...]), 0.5, rtol=1e-6)
    quantiles = jnp.quantile(kernel.log_step[...], jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(jnp.exp(quantiles), [0.001, 0.01, 0.1], rtol=0.15)
    assert jnp.mean(kernel.c[...] ** 2) == pytest.approx(0.5, rel=0.05)


def test_a_fourier_kernels_taps_have_the_scale_it_starts_with():
    assert jnp.std(build(FourierKernel, "circular", length=4096)()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("boundary", ["causal", "bidirectional"])
@pytest.mark.parametrize("kind", [FreeKernel, MultiScaleKernel, MultiResolutionKernel, ImplicitKernel, DiagonalKernel])
def test_another_length_keeps_the_lags(kind, boundary):
    kernel = build(kind, boundary)
    middle = LENGTH - 1 if boundary == "bidirectional" else 0
    for length in (30, 80):
        taps, new = kernel(length), length - 1 if boundary == "bidirectional" else 0
        reach = min(length, LENGTH)
        lags = np.arange(1 - reach if boundary == "bidirectional" else 0, reach)
        np.testing.assert_allclose(taps[:, new + lags], kernel()[:, middle + lags], atol=1e-5)
        if kind is FreeKernel and length > LENGTH:
            assert jnp.count_nonzero(taps) == jnp.count_nonzero(kernel())


@pytest.mark.parametrize("kind", [MultiScaleKernel, MultiResolutionKernel, ImplicitKernel, DiagonalKernel])
def test_another_circle_keeps_the_lags_up_to_half_of_it(kind):
    kernel = build(kind, "circular")
    for length in (30, 80):
        reach = min(length, LENGTH) // 2
        lags = np.arange(1 - reach, reach)  # from the ring's end on those behind
        np.testing.assert_allclose(kernel(length)[:, lags], kernel()[:, lags], atol=1e-5)


@pytest.mark.parametrize("kind", [MultiResolutionKernel, ImplicitKernel, DiagonalKernel])
def test_a_finer_step_samples_the_same_function(kind):
    kernel = build(kind)
    np.testing.assert_allclose(2 * kernel(2 * LENGTH, step=0.5)[:, ::2], kernel(), atol=1e-5)


def test_a_finer_step_of_a_multi_scale_kernel_lies_between_the_coarse_taps():
    """Values stand in the middle of their steps, and what lies between two of them in a scale is on a straight line."""
    kernel = MultiScaleKernel(FEATURES, 16, "causal", width=8, rngs=nnx.Rngs(0))
    fine, coarse = 2 * kernel(32, step=0.5), kernel()
    for scale in (slice(0, 8), slice(8, 16)):
        for channel in range(FEATURES):
            of_scale = np.arange(16)[scale]
            between = np.arange(2 * scale.start + 1, 2 * scale.stop - 1)
            expected = np.interp((between + 0.5) / 2, of_scale + 0.5, coarse[channel, scale])
            np.testing.assert_allclose(fine[channel, between], expected, atol=1e-5)


def test_a_fourier_kernel_means_the_same_on_a_finer_circle():
    coarse = GlobalConv(2, 16, kernel=FourierKernel, rngs=nnx.Rngs(0))
    fine = GlobalConv(2, 48, kernel=FourierKernel, kernel_length=16, stretch=True, rngs=nnx.Rngs(0))

    def signal(length):
        t = np.arange(length) / length
        return jnp.asarray(np.stack([np.sin(4 * np.pi * t) + 0.3, np.cos(10 * np.pi * t)], axis=-1)[None], jnp.float32)

    np.testing.assert_allclose(fine(signal(48))[:, ::3], coarse(signal(16)), atol=1e-6)


def test_what_a_kernel_cannot_give_is_named():
    with pytest.raises(ValueError, match="a free circular kernel of length 50 has no taps for 60"):
        build(FreeKernel, "circular")(60)
    with pytest.raises(ValueError, match=r"a free causal kernel .* step=0.5"):
        build(FreeKernel)(step=0.5)
    with pytest.raises(ValueError, match="a Fourier kernel of length 50 has no taps for length 60"):
        build(FourierKernel, "circular")(60)
    with pytest.raises(ValueError, match="a Fourier kernel of length 50 has no taps for length 100"):
        build(FourierKernel)(100, step=0.5)
    for kind, options in (
        (FreeKernel, {"smooth": -1}),
        (MultiScaleKernel, {"width": 0}),
        (MultiResolutionKernel, {"terms": 5}),
        (ImplicitKernel, {"bands": 0}),
        (DiagonalKernel, {"states": 7}),
        (FourierKernel, {"scale": 0.0}),
    ):
        with pytest.raises(ValueError, match="kernel"):
            build(kind, **options)


def test_every_kernel_is_in_the_list_above_and_in_the_configs():
    from configs import base

    defined = {name for name, value in vars(kernels).items() if isinstance(value, type) and name.endswith("Kernel")}
    assert defined == {kind.__name__ for kind in ALL} | {"DistanceKernel"}
    assert {path.rpartition(".")[2] for path, _ in base.KERNELS.values()} == {kind.__name__ for kind in ALL}
