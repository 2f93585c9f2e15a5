"""Whole training steps: gconv's model, an attention model of equal parameters, and the same gconv block in PyTorch."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import base
from gconv.training.match import compiled_step
from scripts.benchmark import rivals
from scripts.benchmark.timing import medians


class Shape(NamedTuple):
    length: int
    features: int
    layers: int
    batch: int


SHAPES = (Shape(512, 64, 4, 32), Shape(1024, 128, 6, 16))


def config_of(mixer: str, shape: Shape, mlp_ratio: float = 0.0) -> ConfigDict:
    config = base.base(mixer)
    config.data.name, config.data.length = "text", shape.length
    config.model.layers, config.model.features, config.model.dropout = shape.layers, shape.features, 0.0
    config.model.mlp_ratio, config.steps = mlp_ratio, 1000
    if mixer == "attention":
        config.model.mixer_options.heads = shape.features // 32
    return config


def measure(shape: Shape, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One row a model: seconds a step, examples a second, parameters, temporary memory."""
    runs: dict[str, Callable[[], None]] = {}
    facts: dict[str, dict[str, Any]] = {}
    runs["gconv"], facts["gconv"] = compiled_step(config_of("gconv", shape), shape.batch)
    # Four projections are 4 d² a layer, a kernel with skip and GLU 2 L d + 2 d²: a perceptron makes up the difference.
    ratio = (2 * shape.length - 2 * shape.features) / (2 * shape.features)
    runs["attention"], facts["attention"] = compiled_step(config_of("attention", shape, ratio), shape.batch)
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
