"""Steps to time, and interleaved medians: on a noisy machine only ratios within one run mean something."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from gconv.data.pipeline import Batch
from gconv.training import sharding
from gconv.training.optim import make_optimizer
from gconv.training.step import initialize, make_train_step, spec_of


def medians(
    functions: Mapping[str, Callable[[], Any]], rounds: int, seconds: float, warm_up: int = 2
) -> dict[str, float]:
    """Median seconds of each function, called in turn: for `rounds` rounds, or fewer once `seconds` have passed.

    Each is called `warm_up` times beforehand, to compile and to fault its memory in. It must wait for its result.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            before = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - before)
    return {name: statistics.median(values) for name, values in times.items()}


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
    learnt = sum(leaf.size for leaf in jax.tree.leaves(nnx.filter_state(state.params, nnx.Param)))
    facts = {"parameters": learnt, "bytes": mesh.size * memory.temp_size_in_bytes}
    return run, facts
