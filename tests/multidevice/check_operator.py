"""A plain jit of the operator over sharded arrays: no gather, and the values of one device."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from gconv.ops import headwise, spectral
from gconv.ops.attention import attention
from gconv.ops.convolution import BOUNDARIES, fastest_method, global_conv
from gconv.ops.partitioning import cache_by_name
from tests.multidevice.hlo import collectives, gathered_shapes

MESH = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
BATCH, LENGTH, CHANNELS = 8, 24, 6
SHARDINGS = {
    "batch": (P("data"), P()),
    "batch over all": (P(("data", "model")), P()),
    "channels": (P(None, None, "model"), P(None, "model")),
    "both": (P("data", None, "model"), P(None, "model")),
}


def operands(boundary, x_spec, kernel_spec, length=LENGTH):
    rng = np.random.default_rng(0)
    taps = 2 * length - 1 if boundary == "bidirectional" else length
    made = [rng.standard_normal(shape).astype(np.float32) for shape in ((BATCH, length, CHANNELS), (taps, CHANNELS))]
    made.append(rng.standard_normal((BATCH, length, CHANNELS)).astype(np.float32))
    specs = (x_spec, kernel_spec, x_spec)
    return [jax.device_put(array, NamedSharding(MESH, spec)) for array, spec in zip(made, specs, strict=True)]


def value_and_gradients(boundary, method="fft"):
    def f(x, kernel, dy):
        y, pull = jax.vjp(lambda x, kernel: global_conv(x, kernel, boundary=boundary, method=method), x, kernel)
        return y, *pull(dy)

    return f


def test_there_are_eight_devices():
    assert jax.device_count() == 8


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", SHARDINGS)
def test_forward_and_gradient_gather_nothing(boundary, name):
    x, kernel, dy = operands(boundary, *SHARDINGS[name])
    forward = jax.jit(lambda x, kernel: global_conv(x, kernel, boundary=boundary, method="fft"))
    compiled = forward.lower(x, kernel).compile()
    assert not collectives(compiled)
    compiled = jax.jit(value_and_gradients(boundary)).lower(x, kernel, dy).compile()
    # The kernel's gradient is summed over the batch: the one collective there is, where the batch is split.
    assert collectives(compiled) == ({} if name == "channels" else {"all-reduce": 1})
    y, dx, dkernel = compiled(x, kernel, dy)
    assert y.sharding.is_equivalent_to(x.sharding, 3) and dx.sharding.is_equivalent_to(x.sharding, 3)
    one = [jnp.asarray(np.asarray(a)) for a in (x, kernel, dy)]
    for ours, alone in zip((y, dx, dkernel), value_and_gradients(boundary)(*one), strict=True):
        np.testing.assert_allclose(ours, alone, atol=2e-5)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("spec", [P("data"), P(None, "data"), P(None, None, "model")], ids=str)
def test_few_taps_ask_for_no_more_than_their_neighbours(boundary, spec):
    """They are shifted, without the primitives that the FFT has: XLA itself cuts them so."""
    arrays = operands(boundary, spec, P())
    arrays[1] = jnp.asarray(np.asarray(arrays[1])[:3])
    compiled = jax.jit(value_and_gradients(boundary, "auto")).lower(*arrays).compile()
    assert not gathered_shapes(compiled)
    alone = jax.jit(value_and_gradients(boundary, "auto"))(*map(np.asarray, arrays))
    for mine, expected in zip(compiled(*arrays), alone, strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", SHARDINGS)
@pytest.mark.parametrize("length, taps, rule", [(LENGTH, 3, "shift"), (16, None, "matrix")])
def test_the_fastest_method_of_few_taps_and_of_few_tokens_gathers_nothing(boundary, name, length, taps, rule):
    assert fastest_method(taps or length, length, jnp.float32, boundary) == rule
    x, kernel, dy = operands(boundary, *SHARDINGS[name], length=length)
    kernel = kernel[:taps]
    compiled = jax.jit(value_and_gradients(boundary, "auto")).lower(x, kernel, dy).compile()
    assert collectives(compiled) == ({} if name == "channels" else {"all-reduce": 1})


def test_matrix_products_gather_nothing_either():
    x, kernel, dy = operands("circular", *SHARDINGS["both"])
    compiled = jax.jit(value_and_gradients("circular", "matmul")).lower(x, kernel, dy).compile()
    assert collectives(compiled) == {"all-reduce": 1}
    for ours, alone in zip(compiled(x, kernel, dy), value_and_gradients("circular")(x, kernel, dy), strict=True):
        np.testing.assert_allclose(ours, alone, atol=2e-5)


@pytest.mark.parametrize("boundary", ["circular", "bidirectional"])
def test_the_fused_kernel_gathers_nothing_either(boundary):
    x, kernel, dy = operands(boundary, *SHARDINGS["both"], length=256)
    compiled = jax.jit(value_and_gradients(boundary, "fused")).lower(x, kernel, dy).compile()
    assert collectives(compiled) == {"all-reduce": 1}
    for ours, alone in zip(compiled(x, kernel, dy), value_and_gradients(boundary)(x, kernel, dy), strict=True):
        np.testing.assert_allclose(ours, alone, atol=3e-5 * np.abs(alone).max())


def test_paired_transforms_gather_nothing_either(monkeypatch):
    monkeypatch.setattr(spectral, "LONGEST_TWISTED", LENGTH - 1)
    spectral._partitioned.cache_clear()
    x, kernel, dy = operands("bidirectional", *SHARDINGS["both"])
    try:
        compiled = jax.jit(value_and_gradients("bidirectional")).lower(x, kernel, dy).compile()
    finally:
        spectral._partitioned.cache_clear()
    assert collectives(compiled) == {"all-reduce": 1} and compiled.as_text().count("fft_type=IRFFT") == 3
    for ours, exact in zip(
        compiled(x, kernel, dy), value_and_gradients("bidirectional", "matrix")(x, kernel, dy), strict=True
    ):
        np.testing.assert_allclose(ours, exact, atol=2e-5)


@pytest.mark.parametrize("layout", ["blc", "bcl"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kernel_over", ["channels", "taps"])
def test_a_sharded_sequence_is_exchanged_for_channels(boundary, layout, kernel_over):
    if boundary == "bidirectional" and kernel_over == "taps":
        pytest.skip("an odd number of taps doesn't divide")
    x_spec, kernel_spec = P("data", "model", None), P(None, "model") if kernel_over == "channels" else P("model", None)
    operand = operands(boundary, x_spec, kernel_spec)
    if layout == "bcl":
        flipped = [NamedSharding(MESH, P(*a.sharding.spec[:-2], *a.sharding.spec[:-3:-1])) for a in operand]
        operand = [jax.device_put(jnp.swapaxes(a, -1, -2), s) for a, s in zip(operand, flipped, strict=True)]

    def f(x, kernel, dy):
        y, pull = jax.vjp(lambda *a: global_conv(*a, boundary=boundary, layout=layout, method="fft"), x, kernel)
        return y, *pull(dy)

    shardings = [a.sharding for a in operand]
    forward = jax.jit(lambda x, kernel, dy: f(x, kernel, dy)[0], out_shardings=shardings[0])
    # Two exchange x and y, and one a kernel whose taps are split; from jax 0.12 on XLA gathers that, and it alone.
    of_kernel = 0 if kernel_over == "channels" else 1
    gathers = of_kernel if jax.__version_info__ >= (0, 12) else 0
    expected = Counter({"all-to-all": 2 + of_kernel - gathers, "all-gather": gathers})
    compiled = forward.lower(*operand).compile()
    assert collectives(compiled) == expected
    assert gathered_shapes(compiled) <= {(CHANNELS, LENGTH)}
    compiled = jax.jit(f, out_shardings=(shardings[0], shardings[0], shardings[1])).lower(*operand).compile()
    assert collectives(compiled) == expected + expected + Counter({"all-reduce": 1})
    assert gathered_shapes(compiled) <= {(CHANNELS, LENGTH)}
    one = [jnp.asarray(np.asarray(a)) for a in operand]
    for ours, alone in zip(compiled(*operand), f(*one), strict=True):
        np.testing.assert_allclose(ours, alone, atol=2e-5)


# How q, k, v (batch, length, heads, size) are split, for how many heads; all-to-alls forward and with the gradient.
ATTENTION = {
    "batch": (P("data"), 4, 0, 0),
    "heads": (P("data", None, "model"), 4, 0, 0),
    "positions": (P("data", "model"), 4, 4, 8),
    "positions over more": (P(None, ("model", "data")), 8, 4, 8),
    "positions and heads": (P(None, "data", "model"), 8, 4, 8),
    "positions, for rows where heads are too few": (P("model", "data"), 3, 4, 8),
}


@pytest.mark.parametrize("masked, causal", [(False, False), (True, True)])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_exchanges_positions_for_heads(name, masked, causal):
    spec, heads, forward, both = ATTENTION[name]
    rng = np.random.default_rng(0)
    q, k, v, dy = (jnp.asarray(a, jnp.float32) for a in rng.standard_normal((4, BATCH, LENGTH, heads, 6)))
    mask = jnp.arange(LENGTH) < jnp.arange(3, 3 + BATCH)[:, None] if masked else None

    def f(q, k, v, dy):
        y, pull = jax.vjp(lambda *a: attention(*a, mask, causal=causal), q, k, v)
        return y, *pull(dy)

    split = [jax.device_put(a, NamedSharding(MESH, spec)) for a in (q, k, v, dy)]
    for function, exchanges in ((lambda *a: f(*a)[0], forward), (f, both)):
        compiled = jax.jit(function).lower(*split).compile()
        counted = collectives(compiled)
        of_mask = counted.pop("all-to-all", 0) + counted.pop("all-gather", 0) - exchanges
        assert not counted and 0 <= of_mask <= masked
        assert all(len(shape) == 2 for shape in gathered_shapes(compiled))
    for ours, alone in zip(compiled(*split), f(q, k, v, dy), strict=True):
        assert ours.sharding.is_equivalent_to(split[0].sharding, 4)
        np.testing.assert_allclose(ours, alone, atol=2e-5)


def test_attention_gathers_positions_that_nothing_divides():
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.standard_normal((1, LENGTH, 3, 6)), jnp.float32)
    split = jax.device_put(q, NamedSharding(MESH, P(None, "model")))
    np.testing.assert_allclose(jax.jit(attention)(split, split, split), attention(q, q, q), atol=2e-5)


def test_a_batch_that_leaves_odd_rows_on_each_device():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((12, LENGTH, 2)), rng.standard_normal((LENGTH, 2))
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    split = jax.device_put(x, NamedSharding(MESH, P("data")))
    np.testing.assert_allclose(jax.jit(global_conv)(split, kernel), global_conv(x, kernel), atol=2e-5)


EXPLICIT = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)  # make_mesh's default


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", ["batch over all", "both", "positions"])
def test_on_a_mesh_with_explicit_axes(boundary, name):
    specs = {**SHARDINGS, "positions": (P("data", "model"), P(None, "model"))}[name]
    auto = operands(boundary, *specs)
    x, kernel, dy = (jax.device_put(np.asarray(a), NamedSharding(EXPLICIT, a.sharding.spec)) for a in auto)
    for ours, alone in zip(
        jax.jit(value_and_gradients(boundary))(x, kernel, dy), value_and_gradients(boundary)(*auto), strict=True
    ):
        np.testing.assert_allclose(ours, alone, atol=2e-5)
    _, dx, dkernel = jax.eval_shape(value_and_gradients(boundary), x, kernel, dy)
    assert dx.sharding.spec == P(*x.sharding.spec, *[None] * (3 - len(x.sharding.spec)))
    assert dkernel.sharding.spec == P(*kernel.sharding.spec, *[None] * (2 - len(kernel.sharding.spec)))


def test_a_kernel_that_is_on_no_mesh():
    x, kernel, dy = operands("bidirectional", P("data", "model"), P())
    alone = jnp.asarray(np.asarray(kernel))
    for ours, expected in zip(
        jax.jit(value_and_gradients("bidirectional"))(x, alone, dy),
        value_and_gradients("bidirectional")(x, kernel, dy),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_second_derivatives_on_a_mesh_with_explicit_axes():
    def f(x, kernel, dy):  # both derivatives of both of the gradient's convolutions
        return jax.grad(lambda *a: sum((g**3).sum() for g in value_and_gradients("causal")(*a)), (0, 1, 2))(
            x, kernel, dy
        )

    auto = operands("causal", P("data", "model"), P(None, "model"))
    explicit = (jax.device_put(np.asarray(a), NamedSharding(EXPLICIT, a.sharding.spec)) for a in auto)
    for ours, alone in zip(jax.jit(f)(*explicit), f(*auto), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-2)


def test_where_a_mesh_is_set_that_the_arrays_are_not_on():
    x, kernel, _ = (np.asarray(a) for a in operands("circular", P(), P()))
    q = np.random.default_rng(0).standard_normal((2, LENGTH, 2, 4)).astype(np.float32)
    alone = global_conv(x, kernel), attention(q, q, q)
    with jax.set_mesh(EXPLICIT):
        np.testing.assert_allclose(jax.jit(global_conv)(x, kernel), alone[0], atol=2e-5)
        np.testing.assert_allclose(jax.jit(attention)(q, q, q), alone[1], atol=2e-5)


def test_the_compilation_cache_knows_programs_by_what_they_compute(tmp_path):
    x, kernel, dy = operands("circular", *SHARDINGS["batch"])
    q = jax.device_put(jnp.ones((BATCH, LENGTH, 2, 4)), NamedSharding(MESH, P("data")))
    programs = [
        lambda: jax.jit(value_and_gradients("circular"))(x, kernel, dy),
        lambda: jax.jit(value_and_gradients("causal"))(x, kernel, dy),  # of the same shapes
        lambda: jax.jit(jax.grad(lambda q: attention(q, q, q).sum()))(q),
        lambda: jax.jit(jax.grad(lambda q: attention(q, q, q, causal=True).sum()))(q),
    ]
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_remove_custom_partitioning_ptr_from_cache_key": False,
    }
    before = {name: jax.config.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    cache_by_name()
    try:
        found = []
        for _ in range(2):
            jax.clear_caches()  # as in a new process, where every function has another address
            for module in (spectral, headwise):
                module._partitioned.cache_clear()
            found.append(([program() for program in programs], sorted(p.name for p in tmp_path.glob("jit_*-cache"))))
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    (first, stored), (second, stored_again) = found
    assert len(stored) == len(programs) and stored_again == stored
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_canary_jnp_fft_gathers_before_jax_0_12():
    """Why gconv.ops.spectral partitions itself: once no supported JAX gathers, it can be simpler."""
    before = jax.__version_info__ < (0, 12)
    x, kernel, dy = operands("circular", *SHARDINGS["batch"])

    def plain(x, kernel):
        spectrum = jnp.fft.rfft(x, axis=1) * jnp.conj(jnp.fft.rfft(kernel, axis=0))
        return jnp.fft.irfft(spectrum, n=LENGTH, axis=1)

    assert (collectives(jax.jit(plain).lower(x, kernel).compile())["all-gather"] > 0) == before
    gradient = jax.jit(lambda x, kernel, dy: jax.vjp(plain, x, kernel)[1](dy))
    assert (collectives(gradient.lower(x, kernel, dy).compile())["all-gather"] > 0) == before
