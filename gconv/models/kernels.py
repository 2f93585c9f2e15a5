"""Parameterisations of a long kernel: modules that yield its taps."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class KernelParam(nnx.Param):
    """A parameter that makes a long kernel: the optimiser gives it its own learning rate and no weight decay."""


def taps_of(length: int, boundary: str) -> int:
    """How many taps reach every position of a sequence: its length, or 2·length − 1 for lags of both signs."""
    return 2 * length - 1 if boundary == "bidirectional" else length


def distances(length: int, boundary: str) -> np.ndarray:
    """How far each tap reaches: (taps,) integers. Around the circle the shorter way counts."""
    taps = np.arange(taps_of(length, boundary))
    if boundary == "bidirectional":
        return np.abs(taps - (length - 1))
    return np.minimum(taps, length - taps) if boundary == "circular" else taps


class FreeKernel(nnx.Module):
    """Every tap a parameter, as in LongConv (Fu et al. 2023, arXiv:2302.06646).

    Initialised to scale · n · exp(−(r/L) · (C/2)^(i/C)), n standard normal, r the distance of the tap, i of C the
    channel: from nearly flat for the first channel to e-folding within 2L/C positions for the last. In use the taps
    are squashed, sign(k) · max(|k| − squash, 0), and in training each is dropped with probability `dropout`.
    """

    def __init__(
        self, features: int, length: int, boundary: str, *, scale: float, squash: float, dropout: float, rngs: nnx.Rngs
    ):
        rates = (features / 2) ** (np.arange(features) / features)
        envelope = scale * np.exp(-distances(length, boundary) / length * rates[:, None])
        noise = jax.random.normal(rngs.params(), envelope.shape, jnp.float32)
        self.taps = KernelParam(noise * jnp.asarray(envelope, jnp.float32), axes=("channels", "taps"))
        self.squash = squash
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, *, key: jax.Array | None = None) -> jax.Array:
        """The kernel, (features, taps) float32."""
        taps = self.taps[...]
        if self.squash:
            taps = jnp.sign(taps) * jax.nn.relu(jnp.abs(taps) - self.squash)
        return self.dropout(taps, deterministic=key is None, rngs=key)
