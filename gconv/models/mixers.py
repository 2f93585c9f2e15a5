"""Token mixers behind one interface: gconv and attention differ here and nowhere else.

A mixer is built as `Mixer(features, length, **options, dropout=…, dtype=…, rngs=…)` and called as

    y = mixer(x, mask, key=None)    x, y (batch, length, features); mask (batch, length) bool, True at real tokens

Padding is never mixed into real tokens. What stands at padded positions of y has no meaning.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gconv.models.kernels import FreeKernel, taps_of
from gconv.ops import cost, global_conv
from gconv.ops.attention import attention, rotate
from gconv.ops.convolution import BOUNDARIES


class GlobalConv(nnx.Module):
    """A depthwise convolution with a learnt kernel as long as the sequence (`gconv.ops.global_conv`).

    The project's layer, y[t, c] = Σ_t' W[t', c] x[(t + t') mod L, c] for the circular boundary.
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
        dropout: float = 0.0,
        dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        if boundary not in BOUNDARIES:
            raise ValueError(f"boundary must be one of {', '.join(BOUNDARIES)}; got {boundary!r}")
        if not (scale > 0 and squash >= 0 and 0 <= kernel_dropout < 1):
            raise ValueError(
                f"scale must be positive, squash at least 0 and kernel_dropout in [0, 1);"
                f" got {scale}, {squash} and {kernel_dropout}"
            )
        del dropout, dtype  # every mixer is offered them; here the block's dropout and the dtype of x will do
        self.features, self.length, self.boundary = features, length, boundary
        self.kernel = FreeKernel(
            features, length, boundary, scale=scale, squash=squash, dropout=kernel_dropout, rngs=rngs
        )

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, length, features), floating → the same shape and dtype.

        A causal or bidirectional layer takes shorter sequences too; a circular one is defined by its length.
        ValueError for another number of features or a longer sequence. `mask` (batch, length) zeroes padding.
        """
        if x.ndim != 3 or x.shape[-1] != self.features:
            raise ValueError(f"x must be (batch, length, {self.features}); got shape {x.shape}")
        length = x.shape[1]
        if length > self.length or (self.boundary == "circular" and length != self.length):
            allowed = "exactly" if self.boundary == "circular" else "at most"
            raise ValueError(f"x has length {length}; this {self.boundary} layer takes {allowed} {self.length}")
        if mask is not None:
            x = jnp.where(mask[..., None], x, 0)
        taps = self.kernel(key=key)
        first = self.length - length if self.boundary == "bidirectional" else 0  # lags −(length−1)..length−1
        return global_conv(x, taps[first : first + taps_of(length, self.boundary)], boundary=self.boundary)

    def flops(self, length: int) -> cost.Flops:
        return cost.global_conv(length, self.features, taps_of(length, self.boundary), self.boundary)


class PointwiseGlobalConv(nnx.Module):
    """Global convolution, then mixing of channels: the block of S4 and SGConv (Gu et al. 2022; Li et al. 2022).

    h = GELU(conv(x) + D ⊙ x),   y = a ⊙ sigmoid(b) with [a, b] = Linear(h)
    """

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
            features, length, boundary=boundary, scale=scale, squash=squash, kernel_dropout=kernel_dropout, rngs=rngs
        )
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (features,)), axes=("channels",))
        self.glu = nnx.Linear(
            features, 2 * features, dtype=dtype, kernel_metadata={"axes": ("channels", "embed")}, rngs=rngs
        )
        self.dropout = nnx.Dropout(dropout)
        self.features = features

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        kernel_key, dropout_key = (None, None) if key is None else jax.random.split(key)
        h = self.conv(x, mask, key=kernel_key) + self.skip[...].astype(x.dtype) * x
        h = self.dropout(jax.nn.gelu(h), deterministic=key is None, rngs=dropout_key)
        a, b = jnp.split(self.glu(h), 2, axis=-1)
        return a * jax.nn.sigmoid(b)

    def flops(self, length: int) -> cost.Flops:
        return self.conv.flops(length) + cost.dense(length, self.features, 2 * self.features)


class Attention(nnx.Module):
    """Multi-head dot-product attention (Vaswani et al. 2017), bidirectional, over the real tokens.

    With `rotary`, queries and keys are turned by their positions (Su et al. 2021): the modern form. Without, it has
    no sense of position, which the model then adds to its embeddings.
    """

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
        self.qkv = nnx.Linear(
            features, 3 * features, dtype=dtype, kernel_metadata={"axes": ("embed", "heads")}, rngs=rngs
        )
        self.out = nnx.Linear(features, features, dtype=dtype, kernel_metadata={"axes": ("heads", "embed")}, rngs=rngs)

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
