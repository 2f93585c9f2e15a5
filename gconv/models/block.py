"""One residual block for every mixer."""

from typing import Any

import jax
from flax import nnx

from gconv.models.activations import activation_of
from gconv.models.dropout import drop_out
from gconv.models.linear import NORMS, Linear
from gconv.ops import cost


class Block(nnx.Module):
    """A mixer, then (for mlp_features > 0) a two-layer perceptron at each position, each in a residual branch.

    With norm_first: x + f(norm(x)); otherwise norm(x + f(x)), as in Vaswani et al. 2017. Dropout follows each branch.
    norm: "layer" or "batch".
    The whole block has the layout of its mixer.
    """

    def __init__(
        self,
        mixer: Any,
        features: int,
        *,
        mlp_features: int,
        activation: str,
        norm: str,
        norm_first: bool,
        dropout: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.mixer = mixer
        self.layout = mixer.layout
        self.mixer_norm = NORMS[norm](features, layout=self.layout, dtype=dtype)
        activation_of(activation)  # raises for an unknown one, also where there is no perceptron
        self.has_mlp = mlp_features > 0
        if self.has_mlp:
            self.mlp = MLP(features, mlp_features, activation=activation, layout=self.layout, dtype=dtype, rngs=rngs)
            self.mlp_norm = NORMS[norm](features, layout=self.layout, dtype=dtype)
        self.dropout = dropout
        self.norm_first = norm_first

    def __call__(self, x: jax.Array, mask: jax.Array | None, *, key: jax.Array | None = None) -> jax.Array:
        """x of the mixer's layout, mask (batch, length) bool → like x. With a key it is training."""
        mixer_key, key1, key2 = (None, None, None) if key is None else jax.random.split(key, 3)
        x = self._residual(x, mask, self.mixer_norm, lambda h: self.mixer(h, mask, key=mixer_key), key1)
        if self.has_mlp:
            x = self._residual(x, mask, self.mlp_norm, self.mlp, key2)
        return x

    def _residual(
        self, x: jax.Array, mask: jax.Array | None, norm: Any, branch: Any, key: jax.Array | None
    ) -> jax.Array:
        training = key is not None
        if self.norm_first:
            return x + drop_out(branch(norm(x, mask, training)), self.dropout, key)
        return norm(x + drop_out(branch(x), self.dropout, key), mask, training)

    def flops(self, length: int) -> cost.Flops:
        return self.mixer.flops(length) + (self.mlp.flops(length) if self.has_mlp else cost.NONE)


class MLP(nnx.Module):
    """Linear, activation ("relu", "gelu", "silu" or "identity"), linear."""

    def __init__(self, features: int, hidden: int, *, activation: str, layout: str, dtype: Any, rngs: nnx.Rngs):
        self.up = Linear(features, hidden, layout=layout, axes=("embed", "hidden"), dtype=dtype, rngs=rngs)
        self.down = Linear(hidden, features, layout=layout, axes=("hidden", "embed"), dtype=dtype, rngs=rngs)
        self.activation = activation_of(activation)
        self.features, self.hidden = features, hidden

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(self.activation(self.up(x)))

    def flops(self, length: int) -> cost.Flops:
        return cost.dense(length, self.features, 2 * self.hidden)
