"""A diagonal state space by recurrence."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gconv.models.activations import gelu
from gconv.models.dropout import drop_out
from gconv.models.kernels import KernelParam
from gconv.models.linear import Linear
from gconv.ops import cost

LONGEST_STEP = 0.1  # of the Δ that a state starts with


class S5(nnx.Module):
    """A diagonal state space over all channels, run as a parallel scan: S5 (Smith et al. 2023, arXiv:2208.04933).

    x_t = exp(ΔΛ) x_{t−1} + Λ⁻¹(exp(ΔΛ) − 1) B u_t,   s_t = 2 Re C x_t + D ⊙ u_t   (zero-order hold)

    forwards and backwards, with a C for each; then y = h ⊙ sigmoid(Linear(h)), h = GELU(s), or, as the authors' code
    has it on some tasks (`activation` "half_glu2"), y = s ⊙ sigmoid(Linear(h)). Λ starts as half of the eigenvalues of
    the normal part of HiPPO-LegS; its real part is −exp of a parameter, where theirs is free or clipped. B starts in
    its eigenvectors' basis, from a truncated normal distribution, C as `c_init` says (`start_of_c`), each state's Δ
    log-uniform in [`shortest_step`, 0.1]. `states` counts the kept half, of conjugate pairs; they start as `blocks`
    such systems side by side. Λ, Δ and B are learnt at kernels' rate, but for those of `at_model_rate`: "b",
    "log_step".
    """

    layout = "blc"

    def __init__(
        self,
        features: int,
        length: int,
        *,
        states: int,
        blocks: int = 1,
        c_init: str = "trunc_standard_normal",
        shortest_step: float = 0.001,
        activation: str = "half_glu1",
        at_model_rate: Sequence[str] = (),
        dropout: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        if states < 1 or blocks < 1 or states % blocks:
            raise ValueError(f"states must be a positive multiple of blocks; got {states} and {blocks}")
        for name, values, known in (
            ("c_init", [c_init], ("trunc_standard_normal", "lecun_normal", "complex_normal")),
            ("activation", [activation], ("half_glu1", "half_glu2")),
            ("at_model_rate", at_model_rate, ("b", "log_step")),
        ):
            for value in values:
                if value not in known:
                    raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if not 0 < shortest_step <= LONGEST_STEP:
            raise ValueError(f"shortest_step must be above 0 and at most {LONGEST_STEP}; got {shortest_step}")
        del length
        self.features, self.states, self.activation = features, states, activation
        eigenvalues, vectors = hippo_normal(2 * states // blocks)
        eigenvalues, vectors = np.tile(eigenvalues, blocks), np.kron(np.eye(blocks), vectors).astype(np.complex64)
        self.log_decay = KernelParam(jnp.asarray(np.log(-eigenvalues.real), jnp.float32))
        self.frequency = KernelParam(jnp.asarray(eigenvalues.imag, jnp.float32))

        def kind(name: str) -> type[nnx.Param]:
            return nnx.Param if name in at_model_rate else KernelParam

        spread = jax.random.uniform(
            rngs.params(), (states,), minval=math.log(shortest_step), maxval=math.log(LONGEST_STEP)
        )
        self.log_step = kind("log_step")(spread)
        b = _truncated_normal(rngs.params(), (2 * states, features)) / math.sqrt(2 * states)
        self.b = kind("b")(_parts(jnp.asarray(vectors.conj().T) @ b))
        self.c = nnx.Param(_parts(start_of_c(c_init, features, vectors, rngs.params())))
        self.skip = nnx.Param(jax.random.normal(rngs.params(), (features,)))
        self.gate = Linear(features, features, layout="blc", axes=("embed", "hidden"), dtype=dtype, rngs=rngs)
        self.dropout = dropout

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, length, features) → the same shape and dtype; the recurrence is complex64."""
        if mask is not None:
            x = jnp.where(mask[:, :, None], x, 0)
        s = self.recurrence(x.astype(jnp.float32)).astype(x.dtype)
        h = drop_out(gelu(s), self.dropout, key)
        return (s if self.activation == "half_glu2" else h) * jax.nn.sigmoid(self.gate(h))

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


def start_of_c(c_init: str, features: int, vectors: np.ndarray, key: jax.Array) -> jax.Array:
    """Of both directions, in the basis of vectors (size, states): (2, features, states) complex64.

    By the names of S5's code, with the variance of a real or imaginary part: "trunc_standard_normal", 1 / size, and
    "lecun_normal", 1 / (size · features), are multiplied by the vectors; "complex_normal", 1/2, isn't.
    """
    size, states = vectors.shape
    if c_init == "complex_normal":
        real, imaginary = jax.random.normal(key, (2, 2, features, states)) * math.sqrt(0.5)
        return jax.lax.complex(real, imaginary)
    real, imaginary = _truncated_normal(key, (2, 2, features, size))
    return jax.lax.complex(real, imaginary) @ vectors / math.sqrt(size * (features if c_init == "lecun_normal" else 1))


def _truncated_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Of variance 1, cut at two deviations of the normal distribution before, as LeCun's is in JAX."""
    return jax.nn.initializers.truncated_normal(1 / 0.8796256610342398)(key, shape)


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
