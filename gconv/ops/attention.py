"""Dot-product attention and rotary positions, as functions of arrays."""

import functools

import jax
import jax.numpy as jnp

from gconv.ops.headwise import headwise


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None, *, causal: bool = False
) -> jax.Array:
    """softmax(q kᵀ / √size) v for each head (Vaswani et al. 2017, eq. 1).

    q, k, v (batch, length, heads, size), floating; mask (batch, length) bool, True where a key may be attended to;
    causal: to no later key.
    Returns (batch, length, heads, size). The scores are normalised in float32.

    Under a plain `jax.jit`, positions that are split over devices are exchanged for heads (`gconv.ops.headwise`).
    """
    masks = () if mask is None else (mask,)
    return headwise(_causal if causal else _full, masks, (q, k, v))[0]


def _full(*operands: jax.Array, causal: bool = False) -> tuple[jax.Array, ...]:
    *masks, q, k, v = operands
    mask = masks[0][:, None, None, :] if masks else None
    return (jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal),)


_causal = functools.partial(_full, causal=True)


def rotate(x: jax.Array) -> jax.Array:
    """Rotary position embedding (Su et al. 2021, eq. 34): pairs (i, i + size/2) turn by t · 10000^(−2i/size).

    x (batch, length, heads, size), size even → the same shape and dtype; the angles are float32.
    """
    half = x.shape[-1] // 2
    frequencies = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None, None] * frequencies  # (length, 1, half)
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1).astype(x.dtype)
