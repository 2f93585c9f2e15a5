"""Fourier mixing, with nothing to learn."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gconv.ops import cost


class FNet(nnx.Module):
    """y = Re F_positions(F_features(x)), both discrete Fourier transforms (Lee-Thorp et al. 2022, arXiv:2105.03824).

    Not as published: the transforms are scaled to be unitary, so that a pre-norm branch keeps the size of its input.
    """

    layout = "blc"

    def __init__(self, features: int, length: int, *, dropout: float, dtype: Any, rngs: nnx.Rngs):
        del length, dropout, dtype, rngs  # no parameter at all
        self.features = features

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, length, features) → the same shape and dtype; the transforms are float32."""
        del key  # nothing here is random
        if mask is not None:
            x = jnp.where(mask[:, :, None], x, 0)
        return jnp.fft.fft2(x.astype(jnp.float32), axes=(1, 2), norm="ortho").real.astype(x.dtype)

    def flops(self, length: int) -> cost.Flops:
        return cost.fft2(length, self.features)
