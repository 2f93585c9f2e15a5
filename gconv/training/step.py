"""The model, its state, and the gradient step."""

import functools
import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh

from gconv.data import tasks
from gconv.data.dataset import Spec
from gconv.data.pipeline import Batch
from gconv.errors import UserError
from gconv.models.classifier import Classifier
from gconv.training import sharding


class TrainState(NamedTuple):
    step: jax.Array  # () int32, the number of updates made
    params: Any  # and a batch norm's running averages, beside its parameters
    opt_state: Any


class Sums(NamedTuple):
    """Totals over what is asked in the real examples of a batch, float32: once an example, or at some positions."""

    loss: jax.Array
    correct: jax.Array
    predictions: jax.Array


def spec_of(config: ml_collections.ConfigDict) -> Spec:
    """What a model must know of a config's data."""
    return tasks.spec(config.data.name, config.data.length, config.data.options)


def build_model(config: ml_collections.ConfigDict, spec: Spec, key: jax.Array, mesh: Mesh | None = None) -> Classifier:
    """The classifier of config.model for data of a spec; with a mesh its devices share the activations.

    Its mixer is the class that config.model.mixer names by its import path, as is a kernel or another mixer among the
    mixer's options.
    UserError for options that don't fit.
    """
    options = config.to_dict()
    _import(options, "mixer", "config.model")
    if options["interleave"]["every"]:
        _import(options["interleave"], "mixer", "config.model.interleave")
    if options["dtype"] not in ("float32", "bfloat16"):
        raise UserError(f"config.model.dtype must be float32 or bfloat16; got {options['dtype']!r}")
    options["dtype"] = jnp.dtype(options["dtype"])
    if mesh is not None:
        options["split"] = functools.partial(sharding.split_activations, mesh)
    try:
        return Classifier(**options, **spec._asdict(), rngs=nnx.Rngs(key))
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise UserError(f"config.model: {error}") from error


def _import(options: dict[str, Any], field: str, path: str) -> None:
    """Replaces an import path among options by what it names, and with it those of a mixer's kernel or own mixer."""
    name = options[field]
    module, _, attribute = name.rpartition(".")
    try:
        options[field] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}.{field}={name!r} can't be imported: {error}") from error
    own = options.get(f"{field}_options", {})
    for part in {"kernel", "inner"} & own.keys():
        _import(own, part, f"{path}.{field}_options")


def initialize(
    config: ml_collections.ConfigDict,
    spec: Spec,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    key: jax.Array,
    fsdp: bool = False,
) -> tuple[nnx.GraphDef, TrainState]:
    """The model's structure and its first state, made shard by shard on the devices of the mesh.

    With `fsdp`, parameters and moments are split over `data` too.
    """

    def first_state(params: nnx.State) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: build_model(config, spec, key, mesh)))
    shardings = sharding.state_shardings(mesh, jax.eval_shape(first_state, shapes), fsdp)
    init = jax.jit(lambda key: first_state(nnx.state(build_model(config, spec, key))), out_shardings=shardings)
    return graphdef, init(key)


def loss_and_sums(model: Classifier, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, Sums]:
    """Cross-entropy summed over what is asked (rows of weight 0 and labels of −1 add nothing), in nats.

    A model that denoises adds, in training (with a key), the loss of reconstructing its tokens, but not to the sums.
    """
    reconstruction: jax.Array | float = 0.0
    labels, at = batch.labels, None
    if labels.ndim == 2:  # scores of thousands of classes would cost more than the model where nothing is asked
        at = jnp.argsort(labels < 0, axis=1, stable=True)[:, : model.answers]
        labels = jnp.take_along_axis(labels, at, axis=1)
    if key is not None and model.denoiser is not None:
        logits, reconstruction = model.denoise(batch.inputs, batch.lengths, key=key)
    else:
        logits = model(batch.inputs, batch.lengths, at=at, key=key)
    asked = labels >= 0
    weights = asked * (batch.weights[:, None] if asked.ndim == 2 else batch.weights)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    correct = jnp.argmax(logits, axis=-1) == labels
    sums = Sums(jnp.sum(losses * weights), jnp.sum(correct * weights), jnp.sum(weights))
    return sums.loss + jnp.sum(reconstruction * weights), sums


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    state: TrainState,
    mesh: Mesh,
) -> jax.stages.Wrapped:
    """The jitted step (state, batch, key) → (state, metrics), which keeps the shardings of `state` and donates it.

    The batch is taken in config.accumulate parts, one after another; the gradient is that of the mean loss over all
    that is asked in it, however it falls into parts, but for a batch norm, which takes each part by itself. With
    config.skip_nonfinite, a step whose loss or gradient isn't finite leaves the state as it is.
    """
    accumulate = config.accumulate

    def gradients(params: Any, batch: Batch, key: jax.Array) -> tuple[Any, Sums, Any]:
        """Of the summed loss, the sums, and the running averages after this batch."""

        def loss(params: Any) -> tuple[jax.Array, tuple[Sums, Any]]:
            model = nnx.merge(graphdef, sharding.gather_parameters(mesh, params))
            total, sums = loss_and_sums(model, batch, key)
            return total, (sums, nnx.state(model, nnx.BatchStat))

        grads, (sums, averages) = jax.grad(loss, has_aux=True)(params)
        return grads, sums, averages

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        if accumulate == 1:
            grads, sums, averages = gradients(state.params, batch, key)
        else:
            # Every device splits its own rows: parts take every accumulate-th row, so no row changes its device.
            parts = jax.tree.map(lambda a: jnp.moveaxis(a.reshape(-1, accumulate, *a.shape[1:]), 1, 0), batch)
            keys = jax.random.split(key, accumulate)
            first = jax.eval_shape(gradients, state.params, jax.tree.map(lambda a: a[0], parts), key)
            zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), first)

            def add(total: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, total, gradients(state.params, *part)), None

            (grads, sums, averages), _ = jax.lax.scan(add, zeros, (parts, keys))
            averages = jax.tree.map(lambda a: a / accumulate, averages)
        grads = jax.tree.map(lambda g: g / sums.predictions, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = nnx.merge_state(optax.apply_updates(state.params, updates), averages)
        metrics = {
            "loss": sums.loss / sums.predictions,
            "accuracy": sums.correct / sums.predictions,
            "grad_norm": optax.tree.norm(grads),
        }
        updated = TrainState(state.step + 1, params, opt_state)
        if config.skip_nonfinite:
            finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
            updated = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        return updated, metrics

    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh)))
