"""Mixing matrices over positions that don't depend on the data."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gconv.models.kernels import KernelParam
from gconv.ops import cost, global_conv


class MixingMatrix(nnx.Module):
    """y[:, c] = M_c x[:, c] with a matrix over positions for each channel, or one `shared` by all.

    rank = 0 is a free matrix of length² weights. Otherwise M = Σ_{i<rank} L_i U_i, lower and upper triangular Toeplitz
    matrices, which are the matrices of displacement rank up to `rank` (Kailath, Kung & Morf 1979): rank 2 contains
    every Toeplitz matrix. Weights start as `scale` times standard normal ones, and L_0 at the unit matrix.
    """

    layout = "bcl"

    def __init__(
        self,
        features: int,
        length: int,
        *,
        shared: bool,
        rank: int,
        scale: float,
        dropout: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        if rank < 0 or not scale > 0:
            raise ValueError(f"rank must be at least 0 and scale positive; got {rank} and {scale}")
        del dropout, dtype  # the block's follows, and the dtype of x will do
        self.features, self.length, self.rank = features, length, rank
        channels = 1 if shared else features
        shape = (channels, 2, rank, length) if rank else (channels, length, length)
        weights = scale * jax.random.normal(rngs.params(), shape)
        if rank:
            weights = weights.at[:, 0, 0, 0].add(1.0)
        self.weights = KernelParam(weights)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape. ValueError for another length."""
        del key  # nothing here is random
        if x.shape[2] != self.length:
            raise ValueError(f"x has length {x.shape[2]}; this mixer takes exactly {self.length}")
        if mask is not None:
            x = jnp.where(mask[:, None, :], x, 0)
        if not self.rank:
            weights = jnp.broadcast_to(self.weights[...], (self.features, self.length, self.length))
            return jnp.einsum("cts,bcs->bct", weights.astype(x.dtype), x)
        weights = jnp.broadcast_to(self.weights[...], (self.features, 2, self.rank, self.length))

        def product(i: int) -> jax.Array:
            ahead = jnp.flip(global_conv(jnp.flip(x, 2), weights[:, 1, i], boundary="causal", layout="bcl"), 2)
            return global_conv(ahead, weights[:, 0, i], boundary="causal", layout="bcl")

        return sum((product(i) for i in range(1, self.rank)), product(0))

    def flops(self, length: int) -> cost.Flops:
        if not self.rank:
            return cost.dense(self.features, length, length)
        once = cost.global_conv(length, self.features, length, "causal")
        return cost.Flops(2 * self.rank * once.fft, 2 * self.rank * once.direct)
