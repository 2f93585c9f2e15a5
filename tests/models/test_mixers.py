import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import gconv
from gconv.models.kernels import KernelParam, distances, taps_of
from gconv.models.mixers import Attention, GlobalConv, PointwiseGlobalConv
from gconv.ops.convolution import BOUNDARIES, global_conv

FEATURES, LENGTH = 8, 12
COMMON = {"dropout": 0.0, "dtype": jnp.float32}
MIXERS = {
    "global_conv": lambda: GlobalConv(FEATURES, LENGTH, boundary="bidirectional", rngs=nnx.Rngs(0)),
    "gconv": lambda: PointwiseGlobalConv(
        FEATURES,
        LENGTH,
        boundary="bidirectional",
        kernel_options={"scale": 0.5},
        **COMMON,
        rngs=nnx.Rngs(0),
    ),
    "attention": lambda: Attention(FEATURES, LENGTH, heads=2, rotary=True, **COMMON, rngs=nnx.Rngs(0)),
    "transformer": lambda: Attention(FEATURES, LENGTH, heads=2, rotary=False, **COMMON, rngs=nnx.Rngs(0)),
}


def inputs(batch=3):
    return jax.random.normal(jax.random.key(1), (batch, LENGTH, FEATURES))


def channels_last(mixer):
    """The mixer as a function of (batch, length, features), whatever its layout."""
    if mixer.layout == "blc":
        return mixer
    return lambda x, *mask: jnp.swapaxes(mixer(jnp.swapaxes(x, 1, 2), *mask), 1, 2)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_layer_is_the_operator_with_its_own_kernel(boundary):
    layer = gconv.GlobalConv(FEATURES, LENGTH, boundary=boundary, rngs=nnx.Rngs(0))
    x = inputs()
    np.testing.assert_array_equal(layer(x), global_conv(x, layer.kernel.taps[...].T, boundary=boundary))
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    other = GlobalConv(FEATURES, LENGTH, boundary=boundary, layout="bcl", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(channels_last(other)(x), layer(x), atol=1e-6)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_skip_adds_a_multiple_of_the_input(boundary):
    def layer(skip):
        return GlobalConv(FEATURES, LENGTH, boundary=boundary, skip=skip, rngs=nnx.Rngs(0))

    x, with_skip = inputs(), layer(True)
    np.testing.assert_allclose(with_skip(x), layer(False)(x) + with_skip.skip[...] * x, atol=1e-5)
    if boundary != "circular":
        x = x[:, :7]
        np.testing.assert_allclose(with_skip(x), layer(False)(x) + with_skip.skip[...] * x, atol=1e-5)


@pytest.mark.parametrize("boundary", ["causal", "bidirectional"])
def test_a_shorter_sequence_meets_the_same_lags(boundary):
    layer = GlobalConv(FEATURES, LENGTH, boundary=boundary, rngs=nnx.Rngs(0))
    x = inputs()[:, :7]
    padded = jnp.pad(x, [(0, 0), (0, LENGTH - 7), (0, 0)])
    np.testing.assert_allclose(layer(x), layer(padded)[:, :7], atol=1e-6)


def test_pointwise_mixing_is_the_published_formula():
    mixer, x = MIXERS["gconv"](), inputs()
    conv = global_conv(x, mixer.conv.kernel().T, boundary="bidirectional", method="reference")
    h = jax.nn.gelu(conv + mixer.conv.skip[...] * x, approximate=False)
    a, b = jnp.split(h @ mixer.glu.kernel[...] + mixer.glu.bias[...], 2, axis=-1)
    np.testing.assert_allclose(channels_last(mixer)(x), a * jax.nn.sigmoid(b), atol=1e-5)


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="x has length 12; this causal layer takes at most 11"):
        GlobalConv(FEATURES, 11, boundary="causal", rngs=nnx.Rngs(0))(inputs())
    with pytest.raises(ValueError, match="x has length 12; this circular layer takes exactly 13"):
        GlobalConv(FEATURES, 13, rngs=nnx.Rngs(0))(inputs())
    with pytest.raises(ValueError, match=r"x must be \(batch, length, 9\); got shape \(3, 12, 8\)"):
        GlobalConv(9, LENGTH, rngs=nnx.Rngs(0))(inputs())
    with pytest.raises(ValueError, match=r"x must be \(batch, 9, length\); got shape \(3, 12, 8\)"):
        GlobalConv(9, LENGTH, layout="bcl", rngs=nnx.Rngs(0))(inputs())


@pytest.mark.parametrize("name", MIXERS)
def test_padding_never_reaches_real_tokens(name):
    mixer, x = channels_last(MIXERS[name]()), inputs()
    mask = jnp.arange(LENGTH) < jnp.array([12, 7, 1])[:, None]
    other = jnp.where(mask[..., None], x, 1e3)
    real = np.asarray(mask)
    np.testing.assert_allclose(mixer(x, mask)[real], mixer(other, mask)[real], atol=1e-5)
    assert not np.allclose(mixer(x, None)[1, :7], mixer(other, None)[1, :7], atol=1e-3)


@pytest.mark.parametrize("name", MIXERS)
def test_every_token_reaches_every_other(name):
    mixer, x = channels_last(MIXERS[name]()), inputs(1)
    reach = jax.jacrev(lambda x: mixer(x, None)[0].sum(-1))(x)[:, 0]
    assert (jnp.abs(reach).sum(-1) > 0).all()


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_kernel_starts_with_the_published_envelope(boundary):
    length, features, scale = 4096, 6, 0.02
    taps = GlobalConv(features, length, boundary=boundary, rngs=nnx.Rngs(0)).kernel.taps[...]
    assert taps.shape == (features, taps_of(length, boundary))
    distance = distances(length, boundary)
    for channel in range(features):
        rate = (features / 2) ** (channel / features) / length
        for low in range(0, length // 2, 512):
            near = (distance >= low) & (distance < low + 512)
            expected = np.sqrt(np.mean((scale * np.exp(-rate * distance[near])) ** 2))
            assert np.std(taps[channel, near]) == pytest.approx(expected, rel=0.15)


def test_squash_and_dropout_shape_the_kernel():
    layer = GlobalConv(FEATURES, 512, kernel_options={"squash": 0.01, "dropout": 0.25}, rngs=nnx.Rngs(0))
    raw, squashed = layer.kernel.taps[...], layer.kernel()
    np.testing.assert_allclose(squashed, np.sign(raw) * np.maximum(np.abs(raw) - 0.01, 0), rtol=1e-6)
    dropped = layer.kernel(key=jax.random.key(0))
    kept = (dropped != 0) & (squashed != 0)
    np.testing.assert_allclose(dropped[kept], squashed[kept] / 0.75, rtol=1e-6)
    assert 1 - kept.sum() / (squashed != 0).sum() == pytest.approx(0.25, abs=0.05)


def test_only_the_taps_are_kernel_parameters():
    _, state = nnx.split(MIXERS["gconv"]())
    marked = {".".join(path) for path, leaf in nnx.to_flat_state(state) if isinstance(leaf, KernelParam)}
    assert marked == {"conv.kernel.taps"}


def test_heads_must_divide_the_features():
    with pytest.raises(ValueError, match=r"features \(8\) must split into 3 heads"):
        Attention(FEATURES, LENGTH, heads=3, rotary=False, **COMMON, rngs=nnx.Rngs(0))
