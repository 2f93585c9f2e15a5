"""A diagonal state space by recurrence."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gconv.models.block import gelu
from gconv.models.dropout import drop_out
from gconv.models.kernels import KernelParam
from gconv.models.linear import Linear
from gconv.ops import cost


class S5(nnx.Module):
    """A diagonal state space over all channels, run as a parallel scan: S5 (Smith et al. 2023, arXiv:2208.04933).

    x_t = exp(ΔΛ) x_{t−1} + Λ⁻¹(exp(ΔΛ) − 1) B u_t,   s_t = 2 Re C x_t + D ⊙ u_t   (zero-order hold)

    forwards and backwards, with a C for each; then y = h ⊙ sigmoid(Linear(h)), h = GELU(s). Λ starts as half of
    the eigenvalues of the normal part of HiPPO-LegS, B and C in its eigenvectors' basis, each state's Δ log-uniform in
    [0.001, 0.1]. `states` counts the kept half, of conjugate pairs; they start as `blocks` such systems side by side.
    As in the paper for all tasks; for ListOps and Text its authors' code has s ⊙ sigmoid(Linear(h)).
    """

    layout = "blc"

    def __init__(
        self, features: int, length: int, *, states: int, blocks: int = 1, dropout: float, dtype: Any, rngs: nnx.Rngs
    ):
        if states < 1 or blocks < 1 or states % blocks:
            raise ValueError(f"states must be a positive multiple of blocks; got {states} and {blocks}")
        del length
        self.features, self.states = features, states
        eigenvalues, vectors = hippo_normal(2 * states // blocks)
        eigenvalues, vectors = np.tile(eigenvalues, blocks), np.kron(np.eye(blocks), vectors)
        self.log_decay = KernelParam(jnp.asarray(np.log(-eigenvalues.real), jnp.float32))
        self.frequency = KernelParam(jnp.asarray(eigenvalues.imag, jnp.float32))
        spread = jax.random.uniform(rngs.params(), (states,), minval=math.log(0.001), maxval=math.log(0.1))
        self.log_step = KernelParam(spread)
        b = jax.random.normal(rngs.params(), (2 * states, features)) / math.sqrt(features)
        c = jax.random.normal(rngs.params(), (2, features, 2 * states)) / math.sqrt(2 * states)
        self.b = KernelParam(_parts(jnp.asarray(vectors.conj().T, jnp.complex64) @ b))
        self.c = nnx.Param(_parts(c @ jnp.asarray(vectors, jnp.complex64)))
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (features,)))
        self.gate = Linear(features, features, layout="blc", axes=("embed", "hidden"), dtype=dtype, rngs=rngs)
        self.dropout = dropout

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, length, features) → the same shape and dtype; the recurrence is complex64."""
        if mask is not None:
            x = jnp.where(mask[:, :, None], x, 0)
        h = gelu(self.recurrence(x.astype(jnp.float32)).astype(x.dtype))
        h = drop_out(h, self.dropout, key)
        return h * jax.nn.sigmoid(self.gate(h))

    def recurrence(self, u: jax.Array) -> jax.Array:
        """s of the class's equation, both directions: u (batch, length, features) float32 → the same."""
        rate, b = self.discrete()
        inputs = jax.lax.complex(u @ b.real.T, u @ b.imag.T)
        states = [_scan(rate, inputs), jnp.flip(_scan(rate, jnp.flip(inputs, 1)), 1)]
        y = self.skip[...] * u
        for state, c in zip(states, self.c[...], strict=True):
            y += 2 * (state.real @ c[..., 0].T - state.imag @ c[..., 1].T)
        return y

    def discrete(self) -> tuple[jax.Array, jax.Array]:
        """exp(ΔΛ) (states,) and Λ⁻¹(exp(ΔΛ) − 1) B (states, features), complex64."""
        eigenvalues = jax.lax.complex(-jnp.exp(self.log_decay[...]), self.frequency[...])
        rate = jnp.exp(eigenvalues * jnp.exp(self.log_step[...]))
        b = jax.lax.complex(self.b[..., 0], self.b[..., 1])
        return rate, ((rate - 1) / eigenvalues)[:, None] * b

    def flops(self, length: int) -> cost.Flops:
        # B once, C twice, of real and imaginary parts
        dense = cost.dense(length, self.features, 6 * self.states + self.features)
        return dense + cost.scan(length, self.states) + cost.scan(length, self.states)


def _scan(rate: jax.Array, inputs: jax.Array) -> jax.Array:
    """x_t = rate ⊙ x_{t−1} + inputs_t from x_{−1} = 0: rate (states,), inputs (batch, length, states) → like inputs."""

    def combine(earlier: tuple[jax.Array, jax.Array], later: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        return later[0] * earlier[0], later[0] * earlier[1] + later[1]

    rates = jnp.broadcast_to(rate, (1, inputs.shape[1], rate.shape[0]))
    return jax.lax.associative_scan(combine, (rates, inputs), axis=1)[1]


def _parts(z: jax.Array) -> jax.Array:
    return jnp.stack([z.real, z.imag], axis=-1)


def hippo_normal(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of the eigenvalues of the normal part of HiPPO-LegS, those of positive imaginary part, and their vectors.

    (size/2,) and (size, size/2) complex128. The matrix is −1/2 on its diagonal and −√(n + 1/2) √(k + 1/2) below it,
    with the opposite sign above (S5, appendix B.1).
    """
    root = np.sqrt(np.arange(size) + 0.5)
    skew = np.triu(np.outer(root, root), 1)
    imaginary, vectors = np.linalg.eigh(-1j * (skew - skew.T))  # skew-symmetric, so i times it is Hermitian
    order = np.argsort(imaginary)[size // 2 :]
    return -0.5 + 1j * imaginary[order], vectors[:, order]
