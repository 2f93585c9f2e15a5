"""A fair match: the width at which a model equals another in parameters, FLOPs or time."""

import functools
import math
import time
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

WIDEST = 16  # times the reference's width
FAR = 0.3  # a match is none beyond this share of the goal


def match(config: ConfigDict, reference: ConfigDict, figure: str) -> int:
    """The width (config.model.features) at which config's figure is nearest to the reference's; both keep their depth.

    figure: "parameters"; "flops" of a forward pass with convolutions by FFT, or "flops_direct" by their defining sum;
    "time" of a training step, measured here and now. Widths are even, multiples of 8 if the reference is 128 or wider,
    and heads divide them. UserError if no width comes near the figure.
    """
    figures: dict[str, Callable[[ConfigDict], float]] = {
        "parameters": parameters,
        "flops": lambda c: _model(c).flops(c.data.length).fft,
        "flops_direct": lambda c: _model(c).flops(c.data.length).direct,
        "time": seconds_a_step,
    }
    of, goal = figures[figure], figures[figure](reference)
    heads = [options.get("heads", 1) for options in (config.model.mixer_options, config.model.interleave.mixer_options)]
    unit = math.lcm(8 if reference.model.features >= 128 else 2, *(2 * h for h in heads))

    @functools.cache
    def at(units: int) -> float:
        wider = ConfigDict(config.to_dict())
        wider.model.features = units * unit
        return of(wider)

    # Figures grow with the width, linearly to quadratically: where their roots' line meets the goal's is a step away.
    low, high = 0, max(1, reference.model.features // unit)
    while at(high) < goal:
        low, high = high, 2 * high
        if high * unit > WIDEST * reference.model.features:
            raise UserError(f"config: no width of {config.mixer} has the {figure} of {reference.mixer}, {goal:,.0f}")
    while high - low > 1:
        below, above = (math.sqrt(at(units)) if units else 0.0 for units in (low, high))
        middle = low + round((high - low) * (math.sqrt(goal) - below) / (above - below))
        middle = min(max(middle, low + 1), high - 1)
        low, high = (middle, high) if at(middle) < goal else (low, middle)
    best = min(filter(None, (low, high)), key=lambda units: abs(at(units) - goal))
    if abs(at(best) - goal) > FAR * goal:
        raise UserError(
            f"config: {config.mixer} has at best {at(best):,.0f} {figure}, at width {best * unit};"
            f" {reference.mixer} has {goal:,.0f}"
        )
    return unit * best


def spec_of(config: ConfigDict) -> Spec:
    return tasks.spec(config.data.name, config.data.length, config.data.options)


def _model(config: ConfigDict) -> Classifier:
    return nnx.eval_shape(lambda: build_model(config.model, spec_of(config), jax.random.key(0)))


def parameters(config: ConfigDict) -> int:
    """How many numbers the model learns."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(_model(config), nnx.Param)))


def seconds_a_step(config: ConfigDict) -> float:
    """The median of five training steps on random data."""
    run, _ = compiled_step(config, config.batch_size)
    taken = []
    for _ in range(7):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[2:]))


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
