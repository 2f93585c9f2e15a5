"""The token-mixing perceptron of MLP-Mixer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gconv.models.activations import gelu
from gconv.models.linear import Linear
from gconv.ops import cost


class MlpMixer(nnx.Module):
    """A perceptron over the positions, shared by the channels: y[:, c] = W₂ GELU(W₁ x[:, c]) (Tolstikhin et al. 2021,
    arXiv:2105.01601). Its channel mixing is the block's perceptron.

    No global depthwise convolution: W₁ and W₂ are dense matrices, one for all channels, where a convolution's are
    circulant or Toeplitz and one for each. `hidden` is the number of token-mixing units.
    """

    layout = "bcl"

    def __init__(self, features: int, length: int, *, hidden: int, dropout: float, dtype: Any, rngs: nnx.Rngs):
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1; got {hidden}")
        del dropout  # the block's follows
        self.features, self.length, self.hidden = features, length, hidden
        self.up = Linear(length, hidden, layout="blc", axes=("taps", "hidden"), dtype=dtype, rngs=rngs)
        self.down = Linear(hidden, length, layout="blc", axes=("hidden", "taps"), dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape. ValueError for another length."""
        del key  # nothing here is random
        if x.shape[2] != self.length:
            raise ValueError(f"x has length {x.shape[2]}; this mixer takes exactly {self.length}")
        if mask is not None:
            x = jnp.where(mask[:, None, :], x, 0)
        return self.down(gelu(self.up(x)))

    def flops(self, length: int) -> cost.Flops:
        return cost.token_perceptron(length, self.features, self.hidden)
