"""A fair match: the width at which a model equals another in parameters, FLOPs or time."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from gconv.data import tasks
from gconv.data.dataset import Spec
from gconv.data.pipeline import Batch
from gconv.errors import UserError
from gconv.models.classifier import Classifier
from gconv.training import sharding
from gconv.training.optim import make_optimizer
from gconv.training.step import build_model, initialize, make_train_step
from gconv.training.timing import medians

WIDEST = 16  # times the reference's width
FAR = 0.3  # a match is none beyond this share of the reference's figure


def match(config: ConfigDict, reference: ConfigDict, figure: str) -> int:
    """The width (config.model.features) at which config's figure is nearest to the reference's; both keep their depth.

    figure: "parameters"; "flops" of a forward pass with convolutions by FFT, or "flops_direct" by their defining sum;
    "time" of a training step, measured here and now. Widths are even, multiples of 8 if the reference is 128 or wider,
    and heads divide them. UserError if no width comes near the figure.
    """
    share = share_of_time(reference) if figure == "time" else _share_of(FIGURES[figure], reference)
    heads = [options.get("heads", 1) for options in (config.model.mixer_options, config.model.interleave.mixer_options)]
    unit = math.lcm(8 if reference.model.features >= 128 else 2, *(2 * h for h in heads))

    @functools.cache
    def at(units: int) -> float:
        wider = ConfigDict(config.to_dict())
        wider.model.features = units * unit
        return share(wider)

    # Figures grow with the width, linearly to quadratically: where their roots' line meets 1 is a step away.
    low, high = 0, max(1, reference.model.features // unit)
    while at(high) < 1:
        low, high = high, 2 * high
        if high * unit > WIDEST * reference.model.features:
            raise UserError(f"config: no width of {config.mixer} has the {figure} of {reference.mixer}")
    while high - low > 1:
        below, above = (math.sqrt(at(units)) if units else 0.0 for units in (low, high))
        middle = low + round((high - low) * (1 - below) / (above - below))
        middle = min(max(middle, low + 1), high - 1)
        low, high = (middle, high) if at(middle) < 1 else (low, middle)
    best = min(filter(None, (low, high)), key=lambda units: abs(at(units) - 1))
    if abs(at(best) - 1) > FAR:
        raise UserError(
            f"config: {config.mixer} has at best {at(best):.2f} times the {figure} of {reference.mixer}, at width"
            f" {best * unit}"
        )
    return unit * best


def spec_of(config: ConfigDict) -> Spec:
    return tasks.spec(config.data.name, config.data.length, config.data.options)


def _model(config: ConfigDict) -> Classifier:
    return nnx.eval_shape(lambda: build_model(config.model, spec_of(config), jax.random.key(0)))


def parameters(config: ConfigDict) -> int:
    """How many numbers the model learns."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(_model(config), nnx.Param)))


FIGURES: dict[str, Callable[[ConfigDict], float]] = {
    "parameters": parameters,
    "flops": lambda config: _model(config).flops(config.data.length).fft,
    "flops_direct": lambda config: _model(config).flops(config.data.length).direct,
}


def _share_of(figure: Callable[[ConfigDict], float], reference: ConfigDict) -> Callable[[ConfigDict], float]:
    theirs = figure(reference)
    return lambda config: figure(config) / theirs


def share_of_time(reference: ConfigDict) -> Callable[[ConfigDict], float]:
    """How long a training step of a config takes, in units of one of the reference, which is timed anew beside it.

    Both take turns, so that what else the machine does slows both down.
    """
    theirs, _ = compiled_step(reference, reference.batch_size)

    def share(config: ConfigDict) -> float:
        ours, _ = compiled_step(config, config.batch_size)
        taken = medians({"ours": ours, "theirs": theirs}, rounds=9, seconds=10)
        return taken["ours"] / taken["theirs"]

    return share


def compiled_step(config: ConfigDict, batch_size: int) -> tuple[Callable[[], dict[str, jax.Array]], dict[str, int]]:
    """A training step of a config on random bytes, and its parameters and temporary bytes, of all devices.

    The step is a function that waits for it and returns its metrics; each call goes on from the last one's parameters.
    """
    spec, mesh = spec_of(config), sharding.make_mesh(config.mesh)
    optimizer = make_optimizer(config.optim, max(config.steps, 1))
    graphdef, state = initialize(config.model, spec, optimizer, mesh, jax.random.key(0))
    rng = np.random.default_rng(0)
    shape = (batch_size, spec.length) if spec.documents == 1 else (batch_size, spec.documents, spec.length)
    batch = Batch(
        rng.integers(0, spec.vocabulary or 256, shape).astype(spec.dtype),
        np.full(shape[:-1], spec.length, np.int32),
        rng.integers(0, spec.classes, shape if spec.answers else batch_size).astype(np.int32),
        np.ones(batch_size, np.float32),
    )
    batch, key = sharding.put_batch(mesh, batch), jax.random.key(1)
    step = make_train_step(graphdef, optimizer, config.optim, state, mesh).lower(state, batch, key).compile()

    def run() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = step(state, batch, key)
        return jax.block_until_ready(metrics)

    memory: Any = step.memory_analysis()
    facts = {"parameters": parameters(config), "bytes": mesh.size * memory.temp_size_in_bytes}
    return run, facts
