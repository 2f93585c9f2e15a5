"""The block of gconv around another mixer: rungs of the ladder from convolution to attention."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gconv.models.mixers.convolution import PointwiseGlobalConv
from gconv.ops import cost


class PointwiseMixer(PointwiseGlobalConv):
    """h = GELU(inner(x) + D ⊙ x),   y = a ⊙ sigmoid(b) with [a, b] = Linear(h): another mixer where gconv convolves.

    `inner` is its class, of either layout, and `options` are its own.
    """

    def token_mixing(self, features: int, length: int, dtype: Any, rngs: nnx.Rngs, **options: Any) -> Any:
        inner = options.pop("inner")
        return _WithSkip(inner(features, length, **options, dropout=0.0, dtype=dtype, rngs=rngs), features, rngs)


class _WithSkip(nnx.Module):
    """mixer(x) + D ⊙ x, D starting as standard normal."""

    def __init__(self, mixer: Any, features: int, rngs: nnx.Rngs):
        self.mixer = mixer
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (features,)), axes=("channels",))

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape."""
        if mask is not None:
            x = jnp.where(mask[:, None, :], x, 0)
        if self.mixer.layout == "bcl":
            mixed = self.mixer(x, mask, key=key)
        else:
            mixed = jnp.swapaxes(self.mixer(jnp.swapaxes(x, 1, 2), mask, key=key), 1, 2)
        return mixed + self.skip[...][:, None].astype(x.dtype) * x

    def flops(self, length: int) -> cost.Flops:
        return self.mixer.flops(length)
