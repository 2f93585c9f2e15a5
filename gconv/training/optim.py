"""AdamW with a group of its own for the parameters of long kernels."""

from typing import Any

import jax
import ml_collections
import optax
from flax import nnx

from gconv.models.kernels import KernelParam


def schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 to config.lr over config.warmup_steps, then a cosine to 0 at the last."""
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, config.warmup_steps, max(steps, config.warmup_steps + 1))


def make_optimizer(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019).

    Kernel parameters (`KernelParam`) follow the same schedule with the peak config.kernel_lr and are not decayed.
    Weight decay, times the learning rate, applies to every other parameter of two or more axes. Gradients are clipped
    to the global norm config.clip, unless it is 0.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        optax.scale_by_adam(b1=config.b1, b2=config.b2),
        optax.add_decayed_weights(config.weight_decay, mask=_decayed),
        optax.stateless(lambda updates, _: _scale_kernels(updates, config.kernel_lr / config.lr)),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _decayed(params: Any) -> Any:
    def decayed(variable: nnx.Variable) -> Any:
        kernel = isinstance(variable, KernelParam)
        return jax.tree.map(lambda value: value.ndim >= 2 and not kernel, variable)

    return jax.tree.map(decayed, params, is_leaf=_is_variable)


def _scale_kernels(updates: Any, factor: float) -> Any:
    def scale(variable: nnx.Variable) -> Any:
        if not isinstance(variable, KernelParam):
            return variable
        return jax.tree.map(lambda update: factor * update, variable)

    return jax.tree.map(scale, updates, is_leaf=_is_variable)
