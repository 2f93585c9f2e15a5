"""Whole training steps: gconv's model, an attention model of equal parameters, and the same gconv block in PyTorch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import base
from gconv.data.pipeline import Batch
from gconv.data.tasks import Spec
from gconv.training import sharding
from gconv.training.optim import make_optimizer
from gconv.training.step import initialize, make_train_step
from scripts.benchmark import rivals
from scripts.benchmark.timing import medians


class Shape(NamedTuple):
    length: int
    features: int
    layers: int
    batch: int


SHAPES = (Shape(512, 64, 4, 32), Shape(1024, 128, 6, 16))


def jax_step(mixer: str, shape: Shape, mlp_ratio: float = 0.0) -> tuple[Callable[[], None], dict[str, Any]]:
    config = base.base(mixer)
    config.model.layers, config.model.features, config.model.dropout = shape.layers, shape.features, 0.0
    config.model.mlp_ratio, config.steps = mlp_ratio, 1000
    if mixer == "attention":
        config.model.mixer_options.heads = shape.features // 32
    optimizer = make_optimizer(config.optim, config.steps)
    mesh = sharding.make_mesh(config.mesh)
    graphdef, state = initialize(config.model, Spec(shape.length, 10, 256), optimizer, mesh, jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = Batch(
        rng.integers(0, 256, (shape.batch, shape.length), np.uint8),
        np.full(shape.batch, shape.length, np.int32),
        rng.integers(0, 10, shape.batch).astype(np.int32),
        np.ones(shape.batch, np.float32),
    )
    batch, key = sharding.put_batch(mesh, batch), jax.random.key(1)
    step = make_train_step(graphdef, optimizer, config.optim, state, mesh).lower(state, batch, key).compile()

    def run() -> None:
        nonlocal state
        state, metrics = step(state, batch, key)
        jax.block_until_ready(metrics)

    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return run, {"parameters": parameters, "bytes": step.memory_analysis().temp_size_in_bytes}


def measure(shape: Shape, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One row a model: seconds a step, examples a second, parameters, temporary memory."""
    runs: dict[str, Callable[[], None]] = {}
    facts: dict[str, dict[str, Any]] = {}
    runs["gconv"], facts["gconv"] = jax_step("gconv", shape)
    # Four projections are 4 d² a layer, a kernel with skip and GLU 2 L d + 2 d²: a perceptron makes up the difference.
    ratio = (2 * shape.length - 2 * shape.features) / (2 * shape.features)
    runs["attention"], facts["attention"] = jax_step("attention", shape, ratio)
    torch = rivals.torch_or_none()
    if torch is not None:
        for layout in ("blc", "bcl"):
            runs[f"gconv in PyTorch, {layout}"] = rivals.torch_step(torch, **shape._asdict(), layout=layout)
    slow = {"attention": runs.pop("attention")}  # ten times the others' time: measured after them, for fewer rounds
    taken = medians(runs, rounds, seconds) | medians(slow, 3, seconds)
    return [
        {"model": name, **shape._asdict(), "seconds": s, "examples_per_second": shape.batch / s, **facts.get(name, {})}
        for name, s in taken.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| length | features | layers | batch | model | ms a step | examples/s | parameters | temporary memory |",
        "|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        parameters = f"{row['parameters']:,}" if "parameters" in row else "the same"
        memory = f"{row['bytes'] / 2**20:,.0f} MiB" if "bytes" in row else "–"
        lines.append(
            f"| {row['length']} | {row['features']} | {row['layers']} | {row['batch']} | {row['model']} |"
            f" {1e3 * row['seconds']:.0f} | {row['examples_per_second']:,.0f} | {parameters} | {memory} |"
        )
    return "\n".join(lines)


def bars(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    found = []
    for shape in sorted({row["length"] for row in rows}):
        time = {row["model"]: row["seconds"] for row in rows if row["length"] == shape}
        rival = [seconds for model, seconds in time.items() if "PyTorch" in model]
        if rival:
            found.append((f"L {shape}: gconv / the better of PyTorch's layouts", time["gconv"] / min(rival), 0.8))
    return found
