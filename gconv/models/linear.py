"""Layers over the features, for either layout: (batch, length, features) or (batch, features, length)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

AXIS = {"blc": 2, "bcl": 1}  # of the features


class LayerNorm(nnx.Module):
    """(x − mean) / √(variance + 10⁻⁶) · scale + bias over the features of each position (Ba et al. 2016), in float32.

    The gradient works everything but mean and variance out again from x, which is cheaper than to keep and read what it
    needs. nnx.LayerNorm would spread 1/√variance · scale over all of x before it multiplies. Of x of 16 bits the
    variance is E[x²] − E[x]², so that x is read once for both: float32 loses less by it than x's own rounding did.
    """

    def __init__(self, features: int, *, layout: str, dtype: Any):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.axis, self.dtype = AXIS[layout], dtype

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, training: bool = False) -> jax.Array:
        """x of the layout → the same shape, of dtype. Neither the mask nor training matters."""
        del mask, training
        return _normalize(x, self.scale[...], self.bias[...], None, self.axis, (self.axis,))[0].astype(self.dtype)


class BatchNorm(nnx.Module):
    """The same over the batch and its real positions, for each feature (Ioffe & Szegedy 2015, arXiv:1502.03167).

    In training mean and variance are the batch's, of all devices together, and a tenth of each enters its running
    average, an `nnx.BatchStat`; otherwise the running averages are taken.
    """

    def __init__(self, features: int, *, layout: str, dtype: Any):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.variance = nnx.BatchStat(jnp.ones(features))
        self.axis, self.dtype = AXIS[layout], dtype

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, training: bool = False) -> jax.Array:
        """x of the layout → the same shape, of dtype; mask (batch, length) is True at real positions, by default all.

        In training the running averages are replaced, in place.
        """
        if not training:
            shape = _shape(x, self.axis)
            scale = self.scale[...] * jax.lax.rsqrt(self.variance[...] + EPSILON)
            bias = self.bias[...] - scale * self.mean[...]
            return (x.astype(jnp.float32) * scale.reshape(shape) + bias.reshape(shape)).astype(self.dtype)
        weights = None if mask is None else jnp.expand_dims(mask, self.axis).astype(jnp.float32)
        over = tuple(axis for axis in range(x.ndim) if axis != self.axis)
        y, mean, variance = _normalize(x, self.scale[...], self.bias[...], weights, self.axis, over)
        for running, now in ((self.mean, mean), (self.variance, variance)):
            running[...] = 0.9 * running[...] + 0.1 * now.reshape(-1)
        return y.astype(self.dtype)


NORMS = {"layer": LayerNorm, "batch": BatchNorm}
EPSILON = 1e-6


@functools.partial(
    jax.checkpoint, static_argnums=(4, 5), policy=jax.checkpoint_policies.save_only_these_names("statistics")
)
def _normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, weights: jax.Array | None, features: int, over: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x normalized over some axes, each position by its weight, in float32, and the mean and variance there."""

    def mean_of(a: jax.Array) -> jax.Array:
        if weights is None:
            mean = jnp.mean(a, over, keepdims=True)
        else:
            mean = jnp.sum(a * weights, over, keepdims=True) / jnp.maximum(jnp.sum(weights), 1)
        return checkpoint_name(mean, "statistics")

    rounded, x = x.dtype.itemsize == 2, x.astype(jnp.float32)
    mean = mean_of(x)
    variance = mean_of(jnp.square(x)) - jnp.square(mean) if rounded else mean_of(jnp.square(x - mean))
    variance = jnp.maximum(variance, 0)
    shape = _shape(x, features)
    y = (x - mean) * jax.lax.rsqrt(variance + EPSILON) * scale.reshape(shape) + bias.reshape(shape)
    return y, mean, variance


def _shape(x: jax.Array, features: int) -> list[int]:
    return [size if axis == features else 1 for axis, size in enumerate(x.shape)]


class Linear(nnx.Linear):
    """y = W x + b at each position; x is (batch, length, inputs), or (batch, inputs, length) for layout "bcl"."""

    def __init__(self, inputs: int, outputs: int, *, layout: str, axes: tuple[str, str], dtype: Any, rngs: nnx.Rngs):
        super().__init__(inputs, outputs, dtype=dtype, kernel_metadata={"axes": axes}, rngs=rngs)
        self.layout = layout

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
        """x of the layout, with the features that go in → the same with those that come out, of dtype."""
        # The weight is cast after it was spread, and the bias added in float32: so are their gradients summed.
        x, weight, bias = x.astype(self.dtype), self.kernel[...], self.bias[...]  # type: ignore[index]
        if self.layout == "blc":
            return (x @ weight.astype(self.dtype) + bias).astype(self.dtype)
        if x.shape[2] < min(weight.shape):
            # A weight spread over the batch would be larger than x. On 2 CPU cores, forward and gradient of two layers,
            # c to 2c to c features: 0.9 of the spread one's time at 32 tokens of 64 features, 0.4 to 0.6 at 32 and 64
            # of 128, 0.1 to 0.5 at 32 to 128 of 256. Not timed on accelerators.
            y = jnp.einsum("bcl,cd->bdl", x, weight.astype(self.dtype))
            return (y + bias[:, None]).astype(self.dtype)
        # One product a sequence, so that no array of activations is transposed: 0.7 to 0.9 times einsum's time.
        weights = jnp.broadcast_to(weight.T, (len(x), self.out_features, self.in_features))
        return (weights.astype(self.dtype) @ x + bias[:, None]).astype(self.dtype)
