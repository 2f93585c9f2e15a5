"""Dot-product attention and rotary positions, as functions of arrays."""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import linear_call

from gconv.ops.hardware import cuda_capability
from gconv.ops.headwise import headwise


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None, *, causal: bool = False
) -> jax.Array:
    """softmax(q kᵀ / √size) v for each head (Vaswani et al. 2017, eq. 1).

    q, k, v (batch, length, heads, size), floating; mask (batch, length) bool, True at the keys that may be attended to,
    which come first and are at least one; causal: to no later key.
    Returns (batch, length, heads, size). The scores are normalised in float32. More than MOST_SCORES of them, or on a
    CPU from SMALL_FROM tokens on more than MOST_SCORES_ON_A_CPU, are taken some heads or queries at a time, and again
    in the gradient, so that memory grows with the length, not with its square.
    On NVIDIA's GPUs, from Ampere on, bfloat16 and float16 are cuDNN's fused attention instead (Dao 2023), with its own
    gradient, whose last bits may differ from run to run; second derivatives of that are not to be had.

    Under a plain `jax.jit`, positions that are split over devices are exchanged for heads (`gconv.ops.headwise`);
    inside a `jax.shard_map` this wants its `check_vma=False`.
    ValueError for other shapes or dtypes.
    """
    if q.ndim != 4 or not q.shape == k.shape == v.shape:
        raise ValueError(f"q, k and v must be (batch, length, heads, size); got {q.shape}, {k.shape} and {v.shape}")
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (q, k, v)):
        raise ValueError(f"q, k and v must be floating; got {q.dtype}, {k.dtype} and {v.dtype}")
    if mask is not None and (mask.shape != q.shape[:2] or mask.dtype != bool):
        raise ValueError(f"mask must be {q.shape[:2]} bool; got {mask.shape} {mask.dtype}")
    masks = () if mask is None else (mask,)
    return headwise(_causal if causal else _full, masks, (q, k, v))[0]


MOST_SCORES = 2**28  # 1 GiB of float32
MOST_SCORES_ON_A_CPU = 2**18  # 1 MiB, which its caches hold; and LEAST_QUERIES are more from 8,192 tokens on
SMALL_FROM = 256  # tokens: shorter sequences have hardly more scores than numbers in q, k and v
LEAST_QUERIES = 32  # at a time: fewer spend their time on adding up the gradients of k and v
MOST_FUSED = 128  # the largest head that cuDNN's attention takes on all GPUs that it runs on, from capability 8.0


def _full(*operands: jax.Array, causal: bool = False) -> tuple[jax.Array, ...]:
    q = operands[-1]
    fused = q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[3] <= MOST_FUSED and cuda_capability() >= 8.0
    return ((_fused if fused else _of_scores)(causal, *operands),)


def _of_scores(causal: bool, *operands: jax.Array) -> jax.Array:
    *masks, q, k, v = operands
    batch, length, heads, size = q.shape
    rows = [jnp.swapaxes(x, 1, 2).reshape(batch * heads, length, size) for x in (q, k, v)]
    rows += [jnp.repeat(mask, heads, axis=0) for mask in masks]
    small = jax.default_backend() == "cpu" and length >= SMALL_FROM
    most = MOST_SCORES_ON_A_CPU if small else MOST_SCORES
    queries = min(length, max(LEAST_QUERIES, most // length))
    at_once = max(1, most // (length * queries))
    if queries == length and at_once >= batch * heads:
        y = jax.vmap(functools.partial(_of_queries, causal, 0))(*rows)
    else:
        y = jax.lax.map(lambda row: _in_blocks(causal, queries, *row), tuple(rows), batch_size=at_once)
    return jnp.swapaxes(y.reshape(batch, heads, length, size), 1, 2)


def _in_blocks(causal: bool, queries: int, q: jax.Array, k: jax.Array, v: jax.Array, *mask: jax.Array) -> jax.Array:
    """Attention of one head, (length, size), some queries at a time, whose scores the gradient makes again."""
    (length, size), dtype = q.shape, q.dtype

    @jax.checkpoint
    def of_block(first: int | jax.Array, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return _of_queries(causal, first, q, k.astype(dtype), v.astype(dtype), *mask)

    if queries == length:
        return of_block(0, q, k, v)
    # Their gradients are summed over all blocks, of which bfloat16 would lose what comes late.
    k, v = (x.astype(jnp.promote_types(dtype, jnp.float32)) for x in (k, v))
    blocks = -(-length // queries)
    q = jnp.pad(q, ((0, blocks * queries - length), (0, 0))).reshape(blocks, queries, size)
    y = jax.lax.map(lambda block: of_block(*block, k, v), (queries * jnp.arange(blocks), q))
    return y.reshape(-1, size)[:length]


def _of_queries(
    causal: bool, first: int | jax.Array, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Of one head: q (queries, size), which begin at position `first`, k and v (length, size), mask (length,)."""
    scores = jnp.matmul(q, k.T, preferred_element_type=jnp.promote_types(q.dtype, jnp.float32))
    never = 0.5 * jnp.finfo(scores.dtype).min  # not −∞: where nothing may be attended to, that would be no number
    if mask is not None:
        scores = jnp.where(mask, scores, never)
    if causal:
        scores = jnp.where(jnp.arange(len(k)) <= first + jnp.arange(len(q))[:, None], scores, never)
    # Divided by their sum after the product with v, which is smaller; any shift of a row's scores gives the same.
    shifted = scores - jax.lax.stop_gradient(jnp.max(scores, axis=1, keepdims=True))
    weights = jnp.exp(shifted * q.shape[1] ** -0.5)
    y = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=scores.dtype)
    return (y / jnp.sum(weights, axis=1, keepdims=True)).astype(v.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fused(causal: bool, *operands: jax.Array) -> jax.Array:
    return _by_cudnn(causal, *operands)


@_fused.defjvp
def _fused_jvp(causal: bool, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    # cuDNN has a gradient and no tangent: this is one by all scores, whose transpose is the gradient.
    def tangent(primals: tuple, tangents: tuple) -> jax.Array:
        *masks, q, k, v = primals
        return jax.jvp(lambda *qkv: _of_scores(causal, *masks, *qkv), (q, k, v), tangents)[1]

    def gradient(primals: tuple, dy: jax.Array) -> tuple[jax.Array, ...]:
        *masks, q, k, v = primals
        return jax.vjp(lambda *qkv: _by_cudnn(causal, *masks, *qkv), q, k, v)[1](dy)

    return _fused(causal, *primals), linear_call(tangent, gradient, primals, tangents[-3:])


def _by_cudnn(causal: bool, *operands: jax.Array) -> jax.Array:
    *masks, q, k, v = operands
    size = q.shape[3]
    q, k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, -size % 8))) for x in (q, k, v))  # whole words, which it wants
    y, _ = jax.nn.dot_product_attention(
        q,
        k,
        v,
        scale=size**-0.5,
        is_causal=causal,
        key_value_seq_lengths=jnp.sum(masks[0], axis=1, dtype=jnp.int32) if masks else None,
        implementation="cudnn",
        return_residual=True,  # not used, but so the call is that of the gradient, and both are compiled as one
    )
    return y[..., :size]


_causal = functools.partial(_full, causal=True)


def rotate(x: jax.Array) -> jax.Array:
    """Rotary position embedding (Su et al. 2021, eq. 34): pairs (i, i + size/2) turn by t · 10000^(−2i/size).

    x (batch, length, heads, size), size even → the same shape and dtype; the angles are float32. ValueError for another
    shape.
    """
    if x.ndim != 4 or x.shape[-1] % 2:
        raise ValueError(f"x must be (batch, length, heads, an even size); got {x.shape}")
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None, None] * frequencies  # (length, 1, half)
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1).astype(x.dtype)
