"""What the default backend's devices are, as far as a choice of method depends on it."""

import jax


def cuda_capability() -> float:
    """Compute capability of NVIDIA's GPUs, 9.0 of an H100; 0 for any other backend."""
    if jax.default_backend() != "gpu":
        return 0.0
    try:
        return float(jax.devices()[0].compute_capability)
    except (AttributeError, ValueError):  # AMD's have none, or another kind
        return 0.0
