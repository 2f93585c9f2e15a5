"""The nonlinearities that a config may name."""

from collections.abc import Callable

import jax


def gelu(x: jax.Array) -> jax.Array:
    """x · Φ(x), exactly (Hendrycks & Gimpel 2016). Its gradient starts from x alone."""
    return jax.checkpoint(lambda x: jax.nn.gelu(x, approximate=False))(x)


ACTIVATIONS = {"relu": jax.nn.relu, "gelu": gelu, "silu": jax.nn.silu, "identity": lambda x: x}


def activation_of(name: str) -> Callable[[jax.Array], jax.Array]:
    """The nonlinearity of a name in ACTIVATIONS, of arrays of any shape. ValueError for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]
