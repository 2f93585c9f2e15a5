"""Dot-product attention, original and modern."""

from typing import Any

import jax
from flax import nnx

from gconv.models.linear import Linear
from gconv.models.mixers import convolution
from gconv.ops import cost
from gconv.ops.attention import attention, rotate


class Attention(nnx.Module):
    """Multi-head dot-product attention (Vaswani et al. 2017) over the real tokens.

    With `rotary`, queries and keys are turned by their positions (Su et al. 2021): the modern form. Without, it has
    no sense of position, which the model then adds to its embeddings. `causal`: to no later token. `short_conv`: after
    a depthwise convolution of three taps, which lets a token see its neighbours before it compares.
    """

    layout = "blc"

    def __init__(
        self,
        features: int,
        length: int,
        *,
        heads: int,
        rotary: bool,
        causal: bool = False,
        short_conv: bool = False,
        dropout: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        if heads < 1 or features % heads or (rotary and features // heads % 2):
            raise ValueError(f"features ({features}) must split into {heads} heads, of even size if rotary")
        del dropout  # the block's follows the projection
        self.heads, self.features, self.rotary, self.causal = heads, features, rotary, causal
        boundary = "causal" if causal else "bidirectional"
        self.short = convolution.short_conv(features, length, boundary, layout="blc", rngs=rngs) if short_conv else None
        self.qkv = Linear(features, 3 * features, layout="blc", axes=("embed", "heads"), dtype=dtype, rngs=rngs)
        self.out = Linear(features, features, layout="blc", axes=("heads", "embed"), dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        del key  # nothing here is random
        q, k, v = self.project(x, mask)
        return self.out(attention(q, k, v, mask, causal=self.causal).reshape(x.shape))

    def project(self, x: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values, with their positions: each (batch, length, heads, features / heads)."""
        batch, length, features = x.shape
        if self.short is not None:
            x = self.short(x, mask)
        # One projection, its columns ordered (head, q|k|v, size), so that a split over heads keeps heads whole.
        qkv = self.qkv(x).reshape(batch, length, self.heads, 3, features // self.heads)
        q, k, v = (qkv[..., i, :] for i in range(3))
        return (rotate(q), rotate(k), v) if self.rotary else (q, k, v)

    def flops(self, length: int) -> cost.Flops:
        projections = cost.dense(length, self.features, 4 * self.features)
        short = cost.NONE if self.short is None else self.short.flops(length)
        return projections + short + cost.attention(length, self.features)
