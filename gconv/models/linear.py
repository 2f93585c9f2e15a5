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

    def __call__(self, x: jax.Array) -> jax.Array:
        return _normalize(x, self.scale[...], self.bias[...], self.axis).astype(self.dtype)


@functools.partial(jax.checkpoint, static_argnums=3, policy=jax.checkpoint_policies.save_only_these_names("statistics"))
def _normalize(x: jax.Array, scale: jax.Array, bias: jax.Array, axis: int) -> jax.Array:
    shape = [len(scale) if i == axis else 1 for i in range(x.ndim)]

    def mean_of(a: jax.Array) -> jax.Array:
        return checkpoint_name(jnp.mean(a, axis, keepdims=True), "statistics")

    rounded, x = x.dtype.itemsize == 2, x.astype(jnp.float32)
    mean = mean_of(x)
    variance = mean_of(jnp.square(x)) - jnp.square(mean) if rounded else mean_of(jnp.square(x - mean))
    x = (x - mean) * jax.lax.rsqrt(jnp.maximum(variance, 0) + 1e-6)
    return x * scale.reshape(shape) + bias.reshape(shape)


class Linear(nnx.Linear):
    """y = W x + b at each position; x is (batch, length, inputs), or (batch, inputs, length) for layout "bcl"."""

    def __init__(self, inputs: int, outputs: int, *, layout: str, axes: tuple[str, str], dtype: Any, rngs: nnx.Rngs):
        super().__init__(inputs, outputs, dtype=dtype, kernel_metadata={"axes": axes}, rngs=rngs)
        self.layout = layout

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
        # The weight is cast after it was spread, and the bias added in float32: so are their gradients summed.
        x, weight, bias = x.astype(self.dtype), self.kernel[...], self.bias[...]  # type: ignore[index]
        if self.layout == "blc":
            return (x @ weight.astype(self.dtype) + bias).astype(self.dtype)
        # One product a sequence, so that no array of activations is transposed: 0.7 to 0.9 times einsum's time.
        weights = jnp.broadcast_to(weight.T, (len(x), self.out_features, self.in_features))
        return (weights.astype(self.dtype) @ x + bias[:, None]).astype(self.dtype)
