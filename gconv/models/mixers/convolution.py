"""Global depthwise convolutions: alone, and with what may stand between them."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gconv.models.activations import activation_of, gelu
from gconv.models.dropout import drop_out
from gconv.models.kernels import FreeKernel, taps_of
from gconv.models.linear import Linear
from gconv.ops import cost, global_conv
from gconv.ops.convolution import BOUNDARIES, LAYOUTS


class GlobalConv(nnx.Module):
    """A depthwise convolution with a learnt kernel as long as the sequence (`gconv.ops.global_conv`).

    The project's layer, y[t, c] = Σ_t' W[t', c] x[(t + t') mod L, c] for the circular boundary.

    Args:
      features, length: channels, and the longest sequence.
      boundary: "circular", "causal" or "bidirectional".
      kernel: the parameterisation, one of `gconv.models.kernels` or any class with their signature.
      kernel_options: its keyword options.
      kernel_length: the length the kernel is built for; 0 for `length`. Made for one and used at another, it transfers.
      stretch: whether `length` positions cover what kernel_length did, more or less densely; otherwise lags keep their
        meaning and the sequence is longer or shorter.
      taps: how many lags the kernel has: a local convolution. 0 for all. Odd for "bidirectional"; not for "circular".
      skip: whether D[c] x[t, c] is added, D learnt: as part of the tap of lag 0, where it costs nothing.
      dropout, dtype: not used; the classifier offers them to every mixer, and here kernel_options and x say as much.
      layout: the operator's: x is (batch, length, features) for "blc", (batch, features, length) for "bcl", which is
        faster.
    """

    def __init__(
        self,
        features: int,
        length: int,
        *,
        boundary: str = "circular",
        kernel: Any = FreeKernel,
        kernel_options: Mapping[str, Any] | None = None,
        kernel_length: int = 0,
        stretch: bool = False,
        taps: int = 0,
        skip: bool = False,
        layout: str = "blc",
        dropout: float = 0.0,
        dtype: jnp.dtype | None = None,
        rngs: nnx.Rngs,
    ):
        if features < 1 or length < 1:
            raise ValueError(f"features and length must be at least 1; got {features} and {length}")
        if boundary not in BOUNDARIES:
            raise ValueError(f"boundary must be one of {', '.join(BOUNDARIES)}; got {boundary!r}")
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
        if taps and (boundary == "circular" or taps < 0 or (boundary == "bidirectional" and taps % 2 == 0)):
            raise ValueError(f"taps must be odd for a bidirectional boundary, and 0 for a circular one; got {taps}")
        if kernel_length < 0:
            raise ValueError(f"kernel_length must be at least 0; got {kernel_length}")
        del dropout, dtype
        self.features, self.length, self.boundary, self.layout = features, length, boundary, layout
        self.reach = min((taps + 1) // 2 if boundary == "bidirectional" else taps, length) if taps else length
        built_for = kernel_length or self.reach
        self.step = built_for / self.reach if stretch else 1.0
        self.kernel = kernel(features, built_for, boundary, **(kernel_options or {}), rngs=rngs)
        if built_for != self.reach:
            jax.eval_shape(lambda: self.kernel(self.reach, step=self.step))  # raises for lengths that it doesn't know
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
        reach = min(self.reach, length)
        taps = self.kernel(self.reach, step=self.step, key=key)
        first = self.reach - reach if self.boundary == "bidirectional" else 0  # lags −(reach − 1)..reach − 1
        taps = taps[:, first : first + taps_of(reach, self.boundary)]
        if self.skip is not None:
            taps = taps.at[:, reach - 1 if self.boundary == "bidirectional" else 0].add(self.skip[...])
        return global_conv(x, taps.T if channels_last else taps, boundary=self.boundary, layout=self.layout)

    def flops(self, length: int) -> cost.Flops:
        return cost.global_conv(length, self.features, taps_of(min(self.reach, length), self.boundary), self.boundary)


class PlainGlobalConv(nnx.Module):
    """The question's own mixer: y = W₂ ⋆ σ(W₁ ⋆ x), two global convolutions with a nonlinearity between.

    No channel meets another. `activation` is "gelu", "relu", "silu", or "identity", with which both collapse into one
    convolution. Both have a skip, D ⊙ x; `conv` are options of `GlobalConv`.
    """

    layout = "bcl"

    def __init__(
        self, features: int, length: int, *, activation: str, dropout: float, dtype: Any, rngs: nnx.Rngs, **conv: Any
    ):
        self.first = GlobalConv(features, length, **conv, skip=True, layout=self.layout, rngs=rngs)
        self.second = GlobalConv(features, length, **conv, skip=True, layout=self.layout, rngs=rngs)
        self.activation, self.dropout = activation_of(activation), dropout
        del dtype  # that of x will do

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape."""
        key1, key2, dropout_key = (None, None, None) if key is None else jax.random.split(key, 3)
        h = self.activation(self.first(x, mask, key=key1))
        h = drop_out(h, self.dropout, dropout_key)
        return self.second(h, mask, key=key2)

    def flops(self, length: int) -> cost.Flops:
        return self.first.flops(length) + self.second.flops(length)


class PointwiseGlobalConv(nnx.Module):
    """Global convolution, then mixing of channels: the block of S4 and SGConv (Gu et al. 2022; Li et al. 2022).

    h = GELU(conv(x) + D ⊙ x),   y = a ⊙ sigmoid(b) with [a, b] = Linear(h); `conv` are options of `GlobalConv`.
    """

    layout = "bcl"

    def __init__(self, features: int, length: int, *, dropout: float, dtype: Any, rngs: nnx.Rngs, **conv: Any):
        self.conv = self.token_mixing(features, length, dtype, rngs, **conv)
        self.glu = Linear(features, 2 * features, layout=self.layout, axes=("embed", "hidden"), dtype=dtype, rngs=rngs)
        self.dropout = dropout
        self.features = features

    def token_mixing(self, features: int, length: int, dtype: Any, rngs: nnx.Rngs, **conv: Any) -> Any:
        """conv(x) + D ⊙ x."""
        del dtype  # that of x will do
        return GlobalConv(features, length, **conv, skip=True, layout=self.layout, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape."""
        kernel_key, dropout_key = (None, None) if key is None else jax.random.split(key)
        h = gelu(self.conv(x, mask, key=kernel_key))
        h = drop_out(h, self.dropout, dropout_key)
        return gate(self.glu(h), axis=1)

    def flops(self, length: int) -> cost.Flops:
        return self.conv.flops(length) + cost.dense(length, self.features, 2 * self.features)


class GatedGlobalConv(nnx.Module):
    """Gated global convolution: the Hyena operator of order 2 (Poli et al. 2023, arXiv:2302.10866), as H3's.

    [q, k, v] = short(Linear(x)),   y = Linear(q ⊙ (conv(k ⊙ v) + D ⊙ k ⊙ v)); `short` is a convolution of three taps.
    The gates make it the product of three functions of x. `conv` are options of `GlobalConv`, for the long one.
    """

    layout = "bcl"

    def __init__(
        self, features: int, length: int, *, boundary: str, dropout: float, dtype: Any, rngs: nnx.Rngs, **conv: Any
    ):
        del dropout  # the block's follows the projection
        self.qkv = Linear(features, 3 * features, layout=self.layout, axes=("embed", "hidden"), dtype=dtype, rngs=rngs)
        self.short = short_conv(3 * features, length, boundary, layout=self.layout, rngs=rngs)
        self.conv = GlobalConv(features, length, boundary=boundary, **conv, skip=True, layout=self.layout, rngs=rngs)
        self.out = Linear(features, features, layout=self.layout, axes=("hidden", "embed"), dtype=dtype, rngs=rngs)
        self.features = features

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape."""
        q, k, v = jnp.split(self.short(self.qkv(x), mask), 3, axis=1)
        return self.out(q * self.conv(k * v, mask, key=key))

    def flops(self, length: int) -> cost.Flops:
        dense = cost.dense(length, self.features, 4 * self.features)
        return dense + self.short.flops(length) + self.conv.flops(length)


class ContentGlobalConv(nnx.Module):
    """A global convolution whose kernel is made of the sequence itself: no weight belongs to a lag.

    [q, k, v] = short(Linear(x)),   y = Linear(q ⊙ (k ⋆ v) / √length): the gated form with k in the kernel's place, for
    each sequence its own. (k ⋆ v)[t] is Σ_s k[s] v[(t + s) mod L] for the boundary "circular", Σ_s k[s] v[t − s] for
    "causal"; `short` is a convolution of three taps.
    """

    layout = "bcl"

    def __init__(self, features: int, length: int, *, boundary: str, dropout: float, dtype: Any, rngs: nnx.Rngs):
        if boundary not in ("circular", "causal"):
            raise ValueError(f"boundary must be circular or causal; got {boundary!r}")
        del dropout  # the block's follows the projection
        self.qkv = Linear(features, 3 * features, layout=self.layout, axes=("embed", "hidden"), dtype=dtype, rngs=rngs)
        self.short = short_conv(3 * features, length, boundary, layout=self.layout, rngs=rngs)
        self.out = Linear(features, features, layout=self.layout, axes=("hidden", "embed"), dtype=dtype, rngs=rngs)
        self.features, self.length, self.boundary = features, length, boundary

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, features, length) → the same shape."""
        del key  # nothing here is random
        q, k, v = jnp.split(self.short(self.qkv(x), mask), 3, axis=1)
        if mask is not None:
            k, v = (jnp.where(mask[:, None, :], a, 0) for a in (k, v))
        convolve = functools.partial(global_conv, boundary=self.boundary, layout=self.layout)
        mixed = jax.vmap(lambda v, k: convolve(v[None], k)[0])(v, k.astype(jnp.float32))
        return self.out(q * mixed / math.sqrt(x.shape[2]))

    def flops(self, length: int) -> cost.Flops:
        conv = cost.global_conv(length, self.features, length, self.boundary)
        transform = conv.fft / 2  # of the kernel, which is one more for each sequence
        dense = cost.dense(length, self.features, 4 * self.features)
        return dense + self.short.flops(length) + cost.Flops(conv.fft + transform, conv.direct)


def short_conv(features: int, length: int, boundary: str, *, layout: str, rngs: nnx.Rngs) -> GlobalConv:
    """A depthwise convolution of three taps about a token, or for "causal" up to it, plus the token itself."""
    return GlobalConv(
        features,
        length,
        boundary="causal" if boundary == "causal" else "bidirectional",
        kernel_options={"scale": 0.3, "decay": False},
        taps=3,
        skip=True,
        layout=layout,
        rngs=rngs,
    )


@jax.checkpoint
def _gate(a: jax.Array, b: jax.Array) -> jax.Array:
    return a * jax.nn.sigmoid(b)


def gate(ab: jax.Array, axis: int) -> jax.Array:
    """Gated linear unit over an axis (Dauphin et al. 2017, eq. 1): [a, b] → a ⊙ sigmoid(b)."""
    return _gate(*jnp.split(ab, 2, axis=axis))
