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
    Returns (batch, length, heads, size). The scores are normalised in float32. More than MOST_SCORES of them are taken
    some queries at a time, and again in the gradient, so that memory grows with the length, not with its square.
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
MOST_FUSED = 128  # the largest head that cuDNN's attention takes on all GPUs that it runs on, from capability 8.0


def _full(*operands: jax.Array, causal: bool = False) -> tuple[jax.Array, ...]:
    q = operands[-1]
    fused = q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[3] <= MOST_FUSED and cuda_capability() >= 8.0
    return ((_fused if fused else _of_scores)(causal, *operands),)


def _of_scores(causal: bool, *operands: jax.Array) -> jax.Array:
    *masks, q, k, v = operands
    batch, length, heads, size = q.shape
    mask = masks[0][:, None, None, :] if masks else None
    if batch * heads * length**2 <= MOST_SCORES:
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal)
    queries = max(1, MOST_SCORES // (batch * heads * length))
    blocks = -(-length // queries)

    @jax.checkpoint
    def of_block(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        first, q = block
        seen = mask
        if causal:
            earlier = jnp.arange(length) <= first + jnp.arange(queries)[:, None]
            seen = earlier if mask is None else earlier & mask
        return jax.nn.dot_product_attention(q, k, v, mask=seen)

    q = jnp.pad(q, ((0, 0), (0, blocks * queries - length), (0, 0), (0, 0)))
    q = jnp.moveaxis(q.reshape(batch, blocks, queries, heads, size), 1, 0)
    y = jax.lax.map(of_block, (queries * jnp.arange(blocks), q))
    return jnp.moveaxis(y, 0, 1).reshape(batch, blocks * queries, heads, size)[:, :length]


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
