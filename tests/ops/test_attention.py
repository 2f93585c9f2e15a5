import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gconv.ops import attention as module
from gconv.ops import headwise
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


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_derivatives_and_batches_are_those_of_the_plain_function(causal, masked):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(a, jnp.float32) for a in rng.standard_normal((3, 2, 4, 2, 3)))
    mask = jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool) if masked else None

    def ours(q, k, v):
        return attention(q, k, v, mask, causal=causal)

    def plain(q, k, v):
        wide = None if mask is None else mask[:, None, None, :]
        return jax.nn.dot_product_attention(q, k, v, mask=wide, is_causal=causal)

    def of(f):
        def loss(q, k, v):
            return jnp.sum(jnp.sin(f(q, k, v)))

        yield f(q, k, v)
        yield from jax.grad(loss, argnums=(0, 1, 2))(q, k, v)
        yield from jax.tree.leaves(jax.hessian(loss, argnums=(0, 2))(q, k, v))
        yield jax.linearize(f, q, k, v)[1](k, v, q)
        yield jax.vmap(f, in_axes=(None, 1, 0), out_axes=2)(q, jnp.stack([k, q], 1), jnp.stack([v, q]))
        yield from jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(0, None, None))(jnp.stack([q, k]), k, v)

    for mine, expected in zip(of(ours), of(plain), strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_a_sequence_without_tokens_makes_no_nan():
    q = jnp.ones((2, 4, 1, 2))
    mask = jnp.array([[0, 0, 0, 0], [1, 1, 0, 0]], bool)
    y, pull = jax.vjp(lambda q: attention(q, q, q, mask), q)
    assert jnp.isfinite(y).all() and jnp.isfinite(pull(q)[0]).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_queries_make_the_same(causal, masked, monkeypatch):
    q, k, v, dy = jax.random.normal(jax.random.key(0), (4, 2, 11, 3, 5))
    mask = (jnp.arange(11) < jnp.array([[11], [7]]),) if masked else ()

    def value_and_gradients():
        y, pull = jax.vjp(lambda *operands: module._full(*mask, *operands, causal=causal)[0], q, k, v)
        return y, *pull(dy)

    whole = value_and_gradients()
    # Four heads of six at a time; four queries of one, the last block short, on a CPU and elsewhere.
    for backend, most in (("cpu", 4 * 11 * 11), ("cpu", 4 * 11), ("gpu", 4 * 11)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        monkeypatch.setattr(module, "LEAST_QUERIES", 4)
        monkeypatch.setattr(module, "SMALL_FROM", 11)
        monkeypatch.setattr(module, "MOST_SCORES_ON_A_CPU" if backend == "cpu" else "MOST_SCORES", most)
        jaxpr = str(jax.make_jaxpr(lambda *operands: module._full(*mask, *operands, causal=causal))(q, k, v))
        assert f"f32[{'4,11' if most > 44 else '1,4'},11]" in jaxpr
        for mine, expected in zip(value_and_gradients(), whole, strict=True):
            np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_the_gradients_of_many_blocks_are_summed_in_float32(monkeypatch):
    q, k, v, dy = jax.random.normal(jax.random.key(0), (4, 1, 1024, 1, 8))
    monkeypatch.setattr(module, "LEAST_QUERIES", 2)
    monkeypatch.setattr(module, "MOST_SCORES_ON_A_CPU", 2)

    def gradients(dtype):
        operands = (a.astype(dtype) for a in (q, k, v))
        return jax.vjp(lambda *a: module._of_scores(False, *a), *operands)[1](dy.astype(dtype))

    for exact, rounded in zip(gradients(jnp.float32), gradients(jnp.bfloat16), strict=True):
        assert jnp.linalg.norm(rounded.astype(jnp.float32) - exact) < 0.01 * jnp.linalg.norm(exact)


def test_the_memory_of_a_long_attention_does_not_grow_with_its_square():
    def memory(length):
        q = jax.ShapeDtypeStruct((1, length, 4, 16), jnp.float32)
        loss = jax.grad(lambda *a: jnp.sum(jnp.sin(attention(*a))), argnums=(0, 1, 2))
        return jax.jit(loss).lower(q, q, q).compile().memory_analysis().temp_size_in_bytes

    assert memory(2**15) < 4.5 * memory(2**13) < 100 * 2**20, "it grows with the length"


def test_on_one_device_a_gradient_costs_what_the_plain_functions_does():
    q = jnp.ones((2, 128, 2, 16))

    def cost(f):
        compiled = jax.jit(jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), argnums=(0, 1, 2))).lower(q, q, q).compile()
        return compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes

    assert cost(attention) == cost(functools.partial(module._of_scores, False))


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As if on a GPU with cuDNN, of which lowering asks no more."""
    monkeypatch.setattr(module, "cuda_capability", lambda: 8.0)
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)
    headwise._partitioned.cache_clear()
    yield monkeypatch
    headwise._partitioned.cache_clear()


def value_and_gradients(f, *operands):
    y, pull = jax.vjp(f, *operands)
    return y, *pull(jnp.cos(y))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_bf16_on_a_gpu_is_cudnns(causal, masked, on_a_gpu):
    mask = jnp.arange(16) < jnp.array([[16], [7]]) if masked else None

    def calls(dtype, size, f):
        q = jax.ShapeDtypeStruct((2, 16, 2, size), dtype)
        text = jax.jit(f).trace(q, q, q).lower(lowering_platforms=("cuda",)).as_text()
        return [text.count(f"@__cudnn$fmhaSoftmax{name}(") for name in ("", "Backward")]

    ours = lambda *a: attention(*a, mask, causal=causal)  # noqa: E731
    gradients = functools.partial(value_and_gradients, ours)
    for dtype, size in ((jnp.bfloat16, 8), (jnp.float16, 128), (jnp.bfloat16, 54)):
        # XLA finds that the three forward calls of value and gradients are one.
        assert calls(dtype, size, ours) == [1, 0] and calls(dtype, size, gradients) == [3, 1]
    for dtype, size in ((jnp.float32, 8), (jnp.bfloat16, 136)):
        assert calls(dtype, size, gradients) == [0, 0]


@pytest.mark.parametrize("size", [8, 6])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_what_cudnn_is_asked_for_is_attention(causal, masked, size, on_a_gpu):
    q, k, v, dy = jax.random.normal(jax.random.key(0), (4, 2, 11, 3, size), jnp.bfloat16)
    mask = (jnp.arange(11) < jnp.array([[11], [7]]),) if masked else ()
    asked, plain = [], jax.nn.dot_product_attention

    def stand_in(*operands, implementation=None, **how):
        asked.append(implementation)
        assert implementation is None or operands[0].shape[3] % 8 == 0
        return plain(*operands, **how)

    on_a_gpu.setattr(jax.nn, "dot_product_attention", stand_in)
    f = functools.partial(module._full, *mask, causal=causal)
    mine = value_and_gradients(lambda *a: f(*a)[0], q, k, v)
    assert asked.count("cudnn") == 2
    tangents = jax.jvp(lambda *a: attention(*a, *mask, causal=causal), (q, k, v), (k, v, dy))
    on_a_gpu.undo()
    q, k, v, dy = (x.astype(jnp.float32) for x in (q, k, v, dy))
    exact = value_and_gradients(lambda *a: f(*a)[0], q, k, v)
    exact_tangents = jax.jvp(lambda *a: f(*a)[0], (q, k, v), (k, v, dy))
    for ours, expected in zip((*mine, *tangents), (*exact, *exact_tangents), strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), expected, atol=0.05)


def test_rotation_is_multiplication_by_complex_units():
    x = np.random.default_rng(0).standard_normal((2, 9, 3, 8)).astype(np.float32)
    units = np.exp(1j * np.arange(9)[:, None] * np.array([1, 0.1, 0.01, 0.001]))  # 10000^(−2i/8)
    turned = (x[..., :4] + 1j * x[..., 4:]) * units[:, None]
    np.testing.assert_allclose(rotate(jnp.asarray(x)), np.concatenate([turned.real, turned.imag], -1), atol=1e-5)


def test_rotated_products_depend_on_relative_position_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 8))
    turned_q, turned_k = (rotate(jnp.broadcast_to(a, (1, 10, 1, 8)))[0, :, 0] for a in (q, k))
    products = turned_q @ turned_k.T
    for lag in range(-9, 10):
        diagonal = jnp.diagonal(products, lag)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(products[0, 0], q @ k, rtol=1e-5)
    assert np.abs(products[0, 5] - products[0, 0]) > 1e-2


Q = jnp.zeros((2, 8, 2, 4))


@pytest.mark.parametrize(
    "operands, message",
    [
        ((Q[0], Q[0], Q[0]), r"q, k and v must be \(batch, length, heads, size\); got \(8, 2, 4\), \(8, 2, 4\) and"),
        ((Q, Q[:, :7], Q[:, :7]), r"got \(2, 8, 2, 4\), \(2, 7, 2, 4\) and \(2, 7, 2, 4\)"),
        ((Q, Q[:, :, :1], Q[:, :, :1]), r"got \(2, 8, 2, 4\), \(2, 8, 1, 4\) and"),
        ((Q.astype(int),) * 3, "q, k and v must be floating; got int32, int32 and int32"),
        ((Q, Q, Q, jnp.ones((2, 7), bool)), r"mask must be \(2, 8\) bool; got \(2, 7\) bool"),
        ((Q, Q, Q, jnp.ones((2, 8))), r"mask must be \(2, 8\) bool; got \(2, 8\) float32"),
    ],
)
def test_bad_arguments_are_named_with_their_shapes(operands, message):
    with pytest.raises(ValueError, match=message):
        attention(*operands)


def test_rotation_asks_for_pairs():
    with pytest.raises(ValueError, match=r"x must be \(batch, length, heads, an even size\); got \(2, 8, 2, 3\)"):
        rotate(Q[..., :3])
