import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import gconv
from gconv.models.kernels import KernelParam, distances, taps_of
from gconv.models.mixers import (
    S5,
    Attention,
    ContentGlobalConv,
    FNet,
    GatedGlobalConv,
    GlobalConv,
    MixingMatrix,
    MlpMixer,
    PlainGlobalConv,
    PointwiseGlobalConv,
    PointwiseMixer,
)
from gconv.models.mixers.state_space import hippo_normal
from gconv.ops.convolution import BOUNDARIES, global_conv

FEATURES, LENGTH = 8, 12
COMMON = {"dropout": 0.0, "dtype": jnp.float32}
CONV = {"boundary": "bidirectional", "kernel_options": {"scale": 0.5}}
MATRIX = {"shared": False, "rank": 0, "scale": 0.5}


def pointwise(mixer, **options):
    return PointwiseMixer(FEATURES, LENGTH, inner=mixer, **options, **COMMON, rngs=nnx.Rngs(0))


MIXERS = {
    "global_conv": lambda: GlobalConv(FEATURES, LENGTH, boundary="bidirectional", rngs=nnx.Rngs(0)),
    "gconv": lambda: PointwiseGlobalConv(FEATURES, LENGTH, **CONV, **COMMON, rngs=nnx.Rngs(0)),
    "gconv_plain": lambda: PlainGlobalConv(FEATURES, LENGTH, activation="gelu", **CONV, **COMMON, rngs=nnx.Rngs(0)),
    "gated": lambda: GatedGlobalConv(FEATURES, LENGTH, **CONV, **COMMON, rngs=nnx.Rngs(0)),
    "content": lambda: ContentGlobalConv(FEATURES, LENGTH, boundary="circular", **COMMON, rngs=nnx.Rngs(0)),
    "attention": lambda: Attention(FEATURES, LENGTH, heads=2, rotary=True, **COMMON, rngs=nnx.Rngs(0)),
    "transformer": lambda: Attention(FEATURES, LENGTH, heads=2, rotary=False, **COMMON, rngs=nnx.Rngs(0)),
    "short": lambda: Attention(FEATURES, LENGTH, heads=2, rotary=True, short_conv=True, **COMMON, rngs=nnx.Rngs(0)),
    "matrix": lambda: pointwise(MixingMatrix, **MATRIX),
    "rank": lambda: pointwise(MixingMatrix, **MATRIX | {"rank": 2}),
    "mlp_mixer_glu": lambda: pointwise(MlpMixer, hidden=16),
    "attention_glu": lambda: pointwise(Attention, heads=2, rotary=True),
    "mlp_mixer": lambda: MlpMixer(FEATURES, LENGTH, hidden=16, **COMMON, rngs=nnx.Rngs(0)),
    "fnet": lambda: FNet(FEATURES, LENGTH, **COMMON, rngs=nnx.Rngs(0)),
    "ssm": lambda: S5(FEATURES, LENGTH, states=4, **COMMON, rngs=nnx.Rngs(0)),
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
    conv = global_conv(x, mixer.conv.kernel().T, boundary="bidirectional", method="matrix")
    h = jax.nn.gelu(conv + mixer.conv.skip[...] * x, approximate=False)
    a, b = jnp.split(h @ mixer.glu.kernel[...] + mixer.glu.bias[...], 2, axis=-1)
    np.testing.assert_allclose(channels_last(mixer)(x), a * jax.nn.sigmoid(b), atol=1e-5)


def test_plain_mixing_is_the_questions_formula():
    mixer, x = MIXERS["gconv_plain"](), inputs()

    def conv(layer, x):
        y = global_conv(x, layer.kernel().T, boundary="bidirectional", method="matrix")
        return y + layer.skip[...] * x

    h = jax.nn.gelu(conv(mixer.first, x), approximate=False)
    np.testing.assert_allclose(channels_last(mixer)(x), conv(mixer.second, h), atol=1e-5)


def test_without_a_nonlinearity_two_convolutions_are_one():
    mixer = PlainGlobalConv(FEATURES, LENGTH, activation="identity", **CONV | {"boundary": "circular"}, **COMMON,
                            rngs=nnx.Rngs(0))  # fmt: skip
    # Under this project's sign of a circular tap, kernels compose by the same convolution, read backwards.
    first, second = (layer.kernel().at[:, 0].add(layer.skip[...]) for layer in (mixer.first, mixer.second))
    both = jnp.stack([jnp.sum(first[:, (k - jnp.arange(LENGTH)) % LENGTH] * second, axis=1) for k in range(LENGTH)], 1)
    y = global_conv(inputs(), both.T, boundary="circular", method="matrix")
    np.testing.assert_allclose(channels_last(mixer)(inputs()), y, atol=1e-5)


def test_gated_mixing_is_the_published_formula():
    mixer, x = MIXERS["gated"](), inputs()
    h = x @ mixer.qkv.kernel[...] + mixer.qkv.bias[...]
    taps = mixer.short.kernel().T
    near = sum(
        taps[k] * jnp.roll(h, k - 1, axis=1).at[:, 0 if k == 2 else -1].multiply(0 if k != 1 else 1) for k in range(3)
    )
    q, k, v = jnp.split(near + mixer.short.skip[...] * h, 3, axis=-1)
    conv = global_conv(k * v, mixer.conv.kernel().T, boundary="bidirectional", method="matrix")
    y = (q * (conv + mixer.conv.skip[...] * k * v)) @ mixer.out.kernel[...] + mixer.out.bias[...]
    np.testing.assert_allclose(channels_last(mixer)(x), y, atol=1e-5)


@pytest.mark.parametrize("boundary", ["circular", "causal"])
def test_a_kernel_of_the_content_is_a_sum_over_pairs_of_positions(boundary):
    mixer = ContentGlobalConv(FEATURES, LENGTH, boundary=boundary, **COMMON, rngs=nnx.Rngs(0))
    x, mask = inputs().swapaxes(1, 2), jnp.arange(LENGTH) < jnp.array([[12], [7], [1]])
    q, k, v = np.split(np.asarray(mixer.short(mixer.qkv(x), mask) * mask[:, None]), 3, axis=1)
    mixed = np.zeros(x.shape)
    for t in range(LENGTH):
        for s in range(LENGTH):
            if boundary == "circular":
                mixed[:, :, t] += k[:, :, s] * v[:, :, (t + s) % LENGTH]
            elif s <= t:
                mixed[:, :, t] += k[:, :, s] * v[:, :, t - s]
    expected = mixer.out(jnp.asarray(q * mixed / np.sqrt(LENGTH), jnp.float32))
    y = mixer(x, mask)
    np.testing.assert_allclose((y - mixer.out(jnp.zeros_like(x))) * mask[:, None],
                               (expected - mixer.out(jnp.zeros_like(x))) * mask[:, None], atol=1e-5)  # fmt: skip
    with pytest.raises(ValueError, match="boundary must be circular or causal; got 'bidirectional'"):
        ContentGlobalConv(FEATURES, LENGTH, boundary="bidirectional", **COMMON, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("kind", [PlainGlobalConv, PointwiseGlobalConv, GatedGlobalConv, ContentGlobalConv])
def test_a_causal_mixer_never_looks_ahead(kind):
    options = {"activation": "gelu"} if kind is PlainGlobalConv else {}
    mixer = kind(FEATURES, LENGTH, boundary="causal", **options, **COMMON, rngs=nnx.Rngs(0))
    causal(channels_last(mixer))


@pytest.mark.parametrize("short_conv", [False, True])
def test_causal_attention_never_looks_ahead(short_conv):
    options = {"heads": 2, "rotary": True, "causal": True, "short_conv": short_conv}
    causal(Attention(FEATURES, LENGTH, **options, **COMMON, rngs=nnx.Rngs(0)))


def causal(mixer):
    influence = jnp.abs(jax.jacrev(lambda x: mixer(x).sum(-1)[0])(inputs(1))[:, 0]).sum(-1)  # of s on t
    ahead, behind = influence[np.triu_indices(LENGTH, 1)], influence[np.tril_indices(LENGTH)]
    assert ahead.max() < 1e-5 and behind.min() > 1e-4  # what an FFT rounds


@pytest.mark.parametrize("boundary, taps", [("bidirectional", 5), ("causal", 3)])
def test_a_local_convolution_reaches_so_far_and_has_so_many_parameters(boundary, taps):
    layer = GlobalConv(FEATURES, LENGTH, boundary=boundary, taps=taps, rngs=nnx.Rngs(0))
    assert layer.kernel.taps[...].shape == (FEATURES, taps)
    reach = jnp.abs(jax.jacrev(lambda x: layer(x)[0, 6].sum())(inputs(1))[0]).sum(-1)
    ahead = 2 if boundary == "bidirectional" else 0
    np.testing.assert_array_equal(np.flatnonzero(reach > 1e-6), np.arange(4, 7 + ahead))
    for bad in (4, -1):
        with pytest.raises(ValueError, match=f"taps must be odd for a bidirectional boundary.* got {bad}"):
            GlobalConv(FEATURES, LENGTH, boundary="bidirectional", taps=bad, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="and 0 for a circular one; got 3"):
        GlobalConv(FEATURES, LENGTH, taps=3, rngs=nnx.Rngs(0))


def test_token_mixing_is_the_published_formula_and_a_convolution_only_if_it_is_circulant():
    mixer, x = MIXERS["mlp_mixer"](), inputs()
    h = jnp.einsum("blc,lh->bhc", x, mixer.up.kernel[...]) + mixer.up.bias[...][:, None]
    y = jnp.einsum("bhc,hl->blc", jax.nn.gelu(h, approximate=False), mixer.down.kernel[...])
    np.testing.assert_allclose(channels_last(mixer)(x), y + mixer.down.bias[...][:, None], atol=1e-5)

    # One token-mixing matrix, for all channels: circulant, it is a global convolution with a kernel they share …
    kernel = jax.random.normal(jax.random.key(2), (LENGTH,))
    t = jnp.arange(LENGTH)
    circulant = kernel[(t - t[:, None]) % LENGTH]  # [t, s]
    shared = jnp.broadcast_to(kernel[:, None], (LENGTH, FEATURES))
    mixed = jnp.einsum("ts,bsc->btc", circulant, x)
    np.testing.assert_allclose(mixed, global_conv(x, shared, boundary="circular"), atol=1e-5)
    # … and of any other matrix no kernel is the equal: shifting the tokens first or last makes a difference.
    free = jax.random.normal(jax.random.key(3), (LENGTH, LENGTH))
    for matrix, equivariant in ((circulant, True), (free, False)):
        shifted = jnp.einsum("ts,bsc->btc", matrix, jnp.roll(x, 1, axis=1))
        assert (
            jnp.allclose(shifted, jnp.roll(jnp.einsum("ts,bsc->btc", matrix, x), 1, axis=1), atol=1e-5) == equivariant
        )
    with pytest.raises(ValueError, match="x has length 7; this mixer takes exactly 12"):
        mixer(jnp.swapaxes(x[:, :7], 1, 2))


@pytest.mark.parametrize("name", ["matrix", "mlp_mixer_glu", "attention_glu"])
def test_another_mixer_in_gconvs_block_is_the_published_formula(name):
    whole, x = MIXERS[name](), inputs()
    inner, skip = whole.conv.mixer, whole.conv.skip[...]
    h = jax.nn.gelu(channels_last(inner)(x) + skip * x, approximate=False)
    a, b = jnp.split(h @ whole.glu.kernel[...] + whole.glu.bias[...], 2, axis=-1)
    np.testing.assert_allclose(channels_last(whole)(x), a * jax.nn.sigmoid(b), atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_a_mixing_matrix_is_one(shared):
    def made(rank, scale=0.5):
        return MixingMatrix(FEATURES, LENGTH, shared=shared, rank=rank, scale=scale, **COMMON, rngs=nnx.Rngs(0))

    x, free = jnp.swapaxes(inputs(), 1, 2), made(0)
    weights = jnp.broadcast_to(free.weights[...], (FEATURES, LENGTH, LENGTH))
    expected = jnp.stack([x[:, c] @ weights[c].T for c in range(FEATURES)], 1)
    np.testing.assert_allclose(free(x), expected, atol=1e-5)

    # Circulant, it is a global convolution.
    t = jnp.arange(LENGTH)
    taps = jax.random.normal(jax.random.key(2), (len(free.weights[...]), LENGTH))
    free.weights[...] = taps[:, (t - t[:, None]) % LENGTH]
    conv = global_conv(x, jnp.broadcast_to(taps, (FEATURES, LENGTH)), layout="bcl", method="matrix")
    np.testing.assert_allclose(free(x), conv, atol=1e-5)

    units = jnp.broadcast_to(jnp.eye(LENGTH)[:, None, :], (LENGTH, FEATURES, LENGTH))
    matrices = jnp.transpose(made(2)(units), (1, 2, 0))  # [c, t, s]
    assert jnp.allclose(matrices[0], matrices[1], atol=1e-5) == shared
    down = jnp.eye(LENGTH, k=-1)
    for matrix in matrices:  # of displacement rank 2: what differs from the matrix shifted along its diagonal
        assert jnp.linalg.matrix_rank(matrix - down @ matrix @ down.T, rtol=1e-4) == 2
    np.testing.assert_allclose(made(2, scale=1e-20)(x), 0 * x, atol=1e-6)  # L_0, the unit matrix, by a U_0 of nothing
    with pytest.raises(ValueError, match="x has length 7; this mixer takes exactly 12"):
        free(x[..., :7])


def test_fourier_mixing_is_two_plain_transforms():
    x = np.asarray(inputs())
    expected = np.fft.fft(np.fft.fft(x, axis=2), axis=1).real / np.sqrt(FEATURES * LENGTH)
    np.testing.assert_allclose(MIXERS["fnet"]()(x), expected, atol=1e-5)


@pytest.mark.parametrize("short_conv", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_rotary_attention_is_its_formula(causal, short_conv):
    """Beside NumPy, where queries and keys are complex numbers, turned by t · 10000^(−i / (size / 2))."""
    heads, size = 2, FEATURES // 2
    options = {"heads": heads, "rotary": True, "causal": causal, "short_conv": short_conv}
    mixer, x = Attention(FEATURES, LENGTH, **options, **COMMON, rngs=nnx.Rngs(0)), np.asarray(inputs(), np.float64)
    mixed = x
    if short_conv:
        taps = np.asarray(mixer.short.kernel()).T  # lags 0 to 2, or -1 to 1
        ahead = 0 if causal else 1
        padded = np.pad(x, ((0, 0), (2 - ahead, ahead), (0, 0)))
        mixed = sum(taps[k] * padded[:, 2 - k : 2 - k + LENGTH] for k in range(3)) + mixer.short.skip[...] * x
    projected = mixed @ np.asarray(mixer.qkv.kernel[...]) + np.asarray(mixer.qkv.bias[...])
    q, k, v = np.moveaxis(projected.reshape(*x.shape[:2], heads, 3, size), 3, 0)
    turn = np.exp(1j * np.arange(LENGTH)[:, None, None] * 10000.0 ** (-np.arange(size // 2) / (size // 2)))
    q, k = ((part[..., : size // 2] + 1j * part[..., size // 2 :]) * turn for part in (q, k))
    scores = np.einsum("bthi,bshi->bhts", q, k.conj()).real / np.sqrt(size)
    if causal:
        scores = np.where(np.tri(LENGTH, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    y = np.einsum("bhts,bshi->bthi", weights, v).reshape(x.shape)
    expected = y @ np.asarray(mixer.out.kernel[...]) + np.asarray(mixer.out.bias[...])
    np.testing.assert_allclose(mixer(x.astype(np.float32)), expected, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_scan_of_a_state_space_is_its_recurrence(blocks):
    mixer, u = S5(FEATURES, LENGTH, states=4, blocks=blocks, **COMMON, rngs=nnx.Rngs(0)), np.asarray(inputs())
    a = -np.exp(np.asarray(mixer.log_decay[...], np.float64)) + 1j * np.asarray(mixer.frequency[...])
    rate = np.exp(a * np.exp(np.asarray(mixer.log_step[...], np.float64)))
    b = ((rate - 1) / a)[:, None] * np.asarray(mixer.b[..., 0] + 1j * mixer.b[..., 1])
    c = np.asarray(mixer.c[..., 0] + 1j * mixer.c[..., 1])
    y = np.asarray(mixer.skip[...]) * u
    for direction, order in enumerate((range(LENGTH), range(LENGTH)[::-1])):
        state = np.zeros((len(u), 4), complex)
        for t in order:
            state = state * rate + u[:, t] @ b.T
            y[:, t] += 2 * (state @ c[direction].T).real
    np.testing.assert_allclose(mixer.recurrence(u), y, atol=1e-5)
    h = jax.nn.gelu(y, approximate=False)
    np.testing.assert_allclose(
        mixer(u), h * jax.nn.sigmoid(h @ mixer.gate.kernel[...] + mixer.gate.bias[...]), atol=1e-5
    )
    with pytest.raises(ValueError, match="states must be a positive multiple of blocks; got 4 and 3"):
        S5(FEATURES, LENGTH, states=4, blocks=3, **COMMON, rngs=nnx.Rngs(0))


def test_a_state_space_starts_at_the_normal_part_of_hippo():
    eigenvalues, vectors = hippo_normal(6)
    n = np.arange(6)
    legs = np.tril(-np.sqrt((2 * n[:, None] + 1) * (2 * n + 1)), -1) - np.diag(n + 1.0)
    rank1 = np.sqrt(n + 0.5)
    normal = legs + np.outer(rank1, rank1)
    np.testing.assert_allclose(normal @ vectors, vectors * eigenvalues, atol=1e-10)
    assert (eigenvalues.imag > 0).all() and np.allclose(vectors.conj().T @ vectors, np.eye(3))


@pytest.mark.parametrize(
    "blocks, c_init, variance",
    [(1, "trunc_standard_normal", 1 / 64), (2, "lecun_normal", 1 / 64**2), (2, "complex_normal", 1 / 2)],
)
def test_a_state_space_starts_as_published(blocks, c_init, variance):
    """Λ of HiPPO, block by block; B and C in its eigenvectors' basis; Δ log-uniform."""
    features, states = 64, 32
    mixer = S5(features, LENGTH, states=states, blocks=blocks, c_init=c_init, **COMMON, rngs=nnx.Rngs(0))
    eigenvalues, vectors = hippo_normal(2 * states // blocks)
    found = -np.exp(mixer.log_decay[...]) + 1j * mixer.frequency[...]
    np.testing.assert_allclose(found, np.tile(eigenvalues, blocks), rtol=1e-4)
    basis = np.kron(np.eye(blocks), vectors)  # with its conjugate, unitary: what is real is twice the real part
    b = np.asarray(mixer.b[..., 0] + 1j * mixer.b[..., 1])
    start = 2 * (basis @ b).real
    assert start.std() == pytest.approx(1 / np.sqrt(2 * states), rel=0.05)
    np.testing.assert_allclose(start.mean(), 0, atol=0.02)
    np.testing.assert_allclose(basis.conj().T @ start, b, atol=1e-5)
    assert np.var(mixer.c[...]) == pytest.approx(variance, rel=0.05) and mixer.c.shape == (2, features, states, 2)
    steps = np.sort(mixer.log_step[...])
    assert np.log(0.001) < steps[0] < np.log(0.002) and np.log(0.05) < steps[-1] < np.log(0.1)


def test_a_state_space_follows_the_options_of_its_authors_code():
    def made(**options):
        return S5(FEATURES, LENGTH, states=4, **options, **COMMON, rngs=nnx.Rngs(0))

    u = np.asarray(inputs())
    plain, gated = made(), made(activation="half_glu2")
    s = plain.recurrence(u)
    h = jax.nn.gelu(s, approximate=False)
    np.testing.assert_allclose(gated(u), s * jax.nn.sigmoid(plain.gate(h)), atol=1e-5)
    mixer = made(at_model_rate=("b", "log_step"), shortest_step=1e-6)
    assert not isinstance(mixer.b, KernelParam) and not isinstance(mixer.log_step, KernelParam)
    assert all(isinstance(p, KernelParam) for p in (plain.b, plain.log_step, mixer.frequency, mixer.log_decay))
    assert mixer.log_step[...].min() < np.log(0.001) < plain.log_step[...].min()
    for options, message in (
        ({"c_init": "zeros"}, "c_init must be one of trunc_standard_normal, .*; got 'zeros'"),
        ({"activation": "glu"}, "activation must be one of half_glu1, half_glu2; got 'glu'"),
        ({"at_model_rate": ("c",)}, "at_model_rate must be one of b, log_step; got 'c'"),
        ({"shortest_step": 0.2}, "shortest_step must be above 0 and at most 0.1; got 0.2"),
    ):
        with pytest.raises(ValueError, match=message):
            made(**options)


@pytest.mark.parametrize("name", MIXERS)
def test_dense_layers_are_split_along_their_inner_axis(name):
    """Into a block's hidden units or heads and out of them: only those are split, so that partial sums meet once."""
    for path, leaf in nnx.to_flat_state(nnx.state(MIXERS[name]())):
        if path[-1] == "kernel" and len(leaf.shape) == 2 and path[-2] in ("qkv", "glu", "gate", "up"):
            assert leaf.get_metadata()["axes"][1] in ("hidden", "heads"), path
        elif path[-1] == "kernel" and len(leaf.shape) == 2 and path[-2] in ("out", "down"):
            assert leaf.get_metadata()["axes"][0] in ("hidden", "heads"), path


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
    reach = jax.jacrev(lambda x: mixer(x, None)[0])(x)[:, :, 0]
    assert (jnp.abs(reach).sum((1, 3)) > 1e-5).all()


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
