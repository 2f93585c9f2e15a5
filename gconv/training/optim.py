"""AdamW with a group of its own for the parameters of long kernels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx

from gconv.errors import UserError
from gconv.models.kernels import KernelParam


def schedule(config: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 to config.lr over config.warmup_steps, then as config.schedule says.

    "cosine" comes to 0 where a step would follow the last; "inverse_sqrt" falls as √(warmup_steps / step) (Vaswani et
    al. 2017, eq. 3). UserError for another.
    """
    if config.schedule == "inverse_sqrt":
        warm_up = max(config.warmup_steps, 1)
        return lambda step: config.lr * jnp.minimum(step / warm_up, jnp.sqrt(warm_up / jnp.maximum(step, 1)))
    if config.schedule != "cosine":
        raise UserError(f"config.optim.schedule must be cosine or inverse_sqrt; got {config.schedule!r}")
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, config.warmup_steps, max(steps, config.warmup_steps + 1))


def make_optimizer(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019).

    Kernel parameters (`KernelParam`) follow the same schedule with the peak config.kernel_lr and are decayed by
    config.kernel_weight_decay. config.weight_decay applies to every other parameter of two or more axes; both are times
    the learning rate. Gradients are clipped to the global norm config.clip, unless it is 0.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        optax.scale_by_adam(b1=config.b1, b2=config.b2),
        optax.add_decayed_weights(config.weight_decay, mask=_matrices),
        optax.add_decayed_weights(config.kernel_weight_decay, mask=_kernels),
        optax.stateless(lambda updates, _: _scale_kernels(updates, config.kernel_lr / config.lr)),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _matrices(params: Any) -> Any:
    return _mask(params, lambda variable, value: value.ndim >= 2 and not isinstance(variable, KernelParam))


def _kernels(params: Any) -> Any:
    return _mask(params, lambda variable, value: isinstance(variable, KernelParam))


def _mask(params: Any, of: Callable[[nnx.Variable, Any], bool]) -> Any:
    return jax.tree.map(lambda v: jax.tree.map(lambda value: of(v, value), v), params, is_leaf=_is_variable)


def _scale_kernels(updates: Any, factor: float) -> Any:
    def scale(variable: nnx.Variable) -> Any:
        if not isinstance(variable, KernelParam):
            return variable
        return jax.tree.map(lambda update: factor * update, variable)

    return jax.tree.map(scale, updates, is_leaf=_is_variable)
