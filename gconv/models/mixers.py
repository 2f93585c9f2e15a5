"""Token mixers behind one interface: gconv and attention differ here and nowhere else.

A mixer is built as `Mixer(features, length, **options, dropout=…, dtype=…, rngs=…)` and called as

    y = mixer(x, mask, key=None)    x, y (batch, length, features); mask (batch, length) bool, True at real tokens

or with x, y (batch, features, length), if its class says `layout = "bcl"` instead of "blc": its block then has that
layout as a whole. Padding is never mixed into real tokens. What stands at padded positions of y has no meaning.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gconv.models.block import gelu
from gconv.models.kernels import FreeKernel, taps_of
from gconv.models.linear import Linear
from gconv.ops import cost, global_conv
from gconv.ops.attention import attention, rotate
from gconv.ops.convolution import BOUNDARIES, LAYOUTS


class GlobalConv(nnx.Module):
    """A depthwise convolution with a learnt kernel as long as the sequence (`gconv.ops.global_conv`).

    The project's layer, y[t, c] = Σ_t' W[t', c] x[(t + t') mod L, c] for the circular boundary. With `skip`,
    D[c] x[t, c] is added, D learnt: as part of the tap of lag 0, where it costs nothing. `layout` is the operator's:
    x is (batch, length, features) for "blc", (batch, features, length) for "bcl", which is faster.
    """

    def __init__(
        self,
        features: int,
        length: int,
        *,
        boundary: str = "circular",
        scale: float = 0.02,
        squash: float = 0.0,
        kernel_dropout: float = 0.0,
        skip: bool = False,
        layout: str = "blc",
        dropout: float = 0.0,
        dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        if boundary not in BOUNDARIES:
            raise ValueError(f"boundary must be one of {', '.join(BOUNDARIES)}; got {boundary!r}")
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
        if not (scale > 0 and squash >= 0 and 0 <= kernel_dropout < 1):
            raise ValueError(
                f"scale must be positive, squash at least 0 and kernel_dropout in [0, 1);"
                f" got {scale}, {squash} and {kernel_dropout}"
            )
        del dropout, dtype  # every mixer is offered them; here the block's dropout and the dtype of x will do
        self.features, self.length, self.boundary, self.layout = features, length, boundary, layout
        self.kernel = FreeKernel(
            features, length, boundary, scale=scale, squash=squash, dropout=kernel_dropout, rngs=rngs
        )
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (features,)), axes=("channels",)) if skip else None

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x of the layer's layout, floating → the same shape and dtype.

        A causal or bidirectional layer takes shorter sequences too; a circular one is defined by its length.
        ValueError for another number of features or a longer sequence. `mask` (batch, length) zeroes padding.
        """
        channels_last = self.layout == "blc"
        if x.ndim != 3 or x.shape[2 if channels_last else 1] != self.features:
            axes = f"length, {self.features}" if channels_last else f"{self.features}, length"
            raise ValueError(f"x must be (batch, {axes}); got shape {x.shape}")
        length = x.shape[1 if channels_last else 2]
        if length > self.length or (self.boundary == "circular" and length != self.length):
            allowed = "exactly" if self.boundary == "circular" else "at most"
            raise ValueError(f"x has length {length}; this {self.boundary} layer takes {allowed} {self.length}")
        if mask is not None:
            x = jnp.where(mask[:, :, None] if channels_last else mask[:, None, :], x, 0)
        taps = self.kernel(key=key)
        first = self.length - length if self.boundary == "bidirectional" else 0  # lags −(length−1)..length−1
        taps = taps[:, first : first + taps_of(length, self.boundary)]
        if self.skip is not None:
            taps = taps.at[:, length - 1 if self.boundary == "bidirectional" else 0].add(self.skip[...])
        return global_conv(x, taps.T if channels_last else taps, boundary=self.boundary, layout=self.layout)

    def flops(self, length: int) -> cost.Flops:
        return cost.global_conv(length, self.features, taps_of(length, self.boundary), self.boundary)


class PointwiseGlobalConv(nnx.Module):
    """Global convolution, then mixing of channels: the block of S4 and SGConv (Gu et al. 2022; Li et al. 2022).

    h = GELU(conv(x) + D ⊙ x),   y = a ⊙ sigmoid(b) with [a, b] = Linear(h)
    """

    layout = "bcl"

    def __init__(
        self,
        features: int,
        length: int,
        *,
        boundary: str,
        scale: float,
        squash: float,
        kernel_dropout: float,
        dropout: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.conv = GlobalConv(
            features,
            length,
            boundary=boundary,
            scale=scale,
            squash=squash,
            kernel_dropout=kernel_dropout,
            skip=True,
            layout=self.layout,
            rngs=rngs,
        )
        self.glu = Linear(features, 2 * features, layout=self.layout, axes=("embed", "hidden"), dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.features = features

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape."""
        kernel_key, dropout_key = (None, None) if key is None else jax.random.split(key)
        h = gelu(self.conv(x, mask, key=kernel_key))
        h = self.dropout(h, deterministic=key is None, rngs=dropout_key)
        return _gate(self.glu(h))

    def flops(self, length: int) -> cost.Flops:
        return self.conv.flops(length) + cost.dense(length, self.features, 2 * self.features)


@jax.checkpoint
def _gate(ab: jax.Array) -> jax.Array:
    """Gated linear unit over axis 1 (Dauphin et al. 2017, eq. 1): [a, b] → a ⊙ sigmoid(b)."""
    a, b = jnp.split(ab, 2, axis=1)
    return a * jax.nn.sigmoid(b)


class Attention(nnx.Module):
    """Multi-head dot-product attention (Vaswani et al. 2017), bidirectional, over the real tokens.

    With `rotary`, queries and keys are turned by their positions (Su et al. 2021): the modern form. Without, it has
    no sense of position, which the model then adds to its embeddings.
    """

    layout = "blc"

    def __init__(
        self,
        features: int,
        length: int,
        *,
        heads: int,
        rotary: bool,
        dropout: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        if heads < 1 or features % heads or (rotary and features // heads % 2):
            raise ValueError(f"features ({features}) must split into {heads} heads, of even size if rotary")
        del length, dropout  # no parameter depends on the length; the block's dropout follows the projection
        self.heads, self.features, self.rotary = heads, features, rotary
        self.qkv = Linear(features, 3 * features, layout="blc", axes=("embed", "heads"), dtype=dtype, rngs=rngs)
        self.out = Linear(features, features, layout="blc", axes=("heads", "embed"), dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        del key  # nothing here is random
        batch, length, features = x.shape
        # One projection, its columns ordered (head, q|k|v, size), so that a split over heads keeps heads whole.
        qkv = self.qkv(x).reshape(batch, length, self.heads, 3, features // self.heads)
        q, k, v = (qkv[..., i, :] for i in range(3))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        return self.out(attention(q, k, v, mask).reshape(batch, length, features))

    def flops(self, length: int) -> cost.Flops:
        projections = cost.dense(length, self.features, 4 * self.features)
        return projections + cost.attention(length, self.features)
