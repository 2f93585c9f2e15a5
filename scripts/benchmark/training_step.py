"""Whole training steps: gconv beside the same block in PyTorch, and every mixer at the shape of every task."""

import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from configs import base
from gconv.data import tasks
from gconv.training.match import match
from gconv.training.timing import compiled_step, medians
from scripts.benchmark import rivals


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
    runs: dict[str, Callable[[], Any]] = {}
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


# One small model for all tasks, so that two cores carry it at every length; each step takes as many tokens.
LAYERS, FEATURES, HEADS, TOKENS = 2, 64, 2, 16_384
TOKEN_WEIGHTS = 16_384  # of each matrix of MLP-Mixer's token perceptron: its units are so many over the length
TASKS = ("listops", "text", "retrieval", "image", "pathfinder", "pathx")
MIXERS = ("gconv", "gconv_plain", "gated", "content", "local", "fnet", "mlp_mixer", "ssm")
WITH_ATTENTION = ("attention", "transformer", "hybrid")  # measured after the others, for fewer rounds
SETTING = (
    f"Every mixer on every task's shape: {LAYERS} layers, {TOKENS:,} tokens a step, no dropout. Each has the width at"
    f" which its parameters come nearest to those of attention at {FEATURES} features and {HEADS} heads. So that they"
    " can at every length, long kernels are SGConv's, whose parameters grow with its logarithm, and a token perceptron"
    f" has {TOKEN_WEIGHTS:,} ÷ length units. hybrid has attention as its second layer. What"
    " the ladder alone has (an untied matrix, and a token perceptron and attention in gconv's block) isn't timed. A"
    " CPU's cores are two devices, which share the batch, or the positions where it is one."
)


def task_config(task: str, mixer: str) -> ConfigDict:
    """The task's config with the small model, before its width is matched."""
    config = importlib.import_module(f"configs.{task}").get_config(mixer)
    base.shape(config, LAYERS, FEATURES, HEADS)
    config.model.dropout = 0.0
    # What the batch leaves over of the devices splits the positions.
    config.mesh.sequence = jax.device_count() // math.gcd(jax.device_count(), batch_of(task, config.data.length))
    options = config.model.mixer_options
    if "kernel" in options and not options.taps:
        options.kernel, kernel_options = base.KERNELS["multi_scale"]
        options.kernel_options = ConfigDict(kernel_options)
    if mixer == "mlp_mixer":
        options.hidden = TOKEN_WEIGHTS // config.data.length
    if config.model.interleave.every:
        config.model.interleave.every = LAYERS
    return config


def batch_of(task: str, length: int) -> int:
    return TOKENS // (len(tasks.TASKS[task].features) * length)


def measure_task(task: str, rounds: int, seconds: float, most_bytes: float) -> list[dict[str, Any]]:
    """One row a mixer, as `measure`'s. No seconds for a step that needs more than most_bytes, by XLA's own account."""
    reference = task_config(task, "attention")
    documents, length = len(tasks.TASKS[task].features), reference.data.length
    batch = batch_of(task, length)
    rows: list[dict[str, Any]] = []
    taken: dict[str, float] = {}
    for group, most_rounds in ((MIXERS, rounds), (WITH_ATTENTION, 3)):
        runs = {}
        for mixer in group:
            config = task_config(task, mixer)
            row = {"task": task, "documents": documents, "length": length, "batch": batch, "model": mixer}
            rows.append(row)
            config.model.features = match(config, reference, "parameters")
            run, facts = compiled_step(config, batch)
            row |= {"features": config.model.features, **facts}
            if facts["bytes"] <= most_bytes:
                runs[mixer] = run
        taken |= medians(runs, most_rounds, seconds)
    return [
        row | {"seconds": taken[row["model"]], "examples_per_second": batch / taken[row["model"]]}
        if row["model"] in taken
        else row
        for row in rows
    ]


def task_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        SETTING,
        "",
        "| task | documents × length | batch | model | features | parameters | examples/s | ms a step |"
        " temporary memory |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if "seconds" in row:
            speed = f"{row['examples_per_second']:.3g} | {1e3 * row['seconds']:.0f}"
        else:
            speed = f"not run: needs {row['bytes'] / 2**30:.0f} GiB | –"
        lines.append(
            f"| {row['task']} | {row['documents']} × {row['length']} | {row['batch']} | {row['model']} |"
            f" {row['features']} | {row['parameters']:,} | {speed} | {row['bytes'] / 2**20:,.0f} MiB |"
        )
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """Of the comparison with PyTorch, then of the tasks."""
    of_tasks = [row for row in rows if "task" in row]
    lines = [
        "| length | features | layers | batch | model | ms a step | examples/s | parameters | temporary memory |",
        "|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if "task" in row:
            continue
        parameters = f"{row['parameters']:,}" if "parameters" in row else "the same"
        memory = f"{row['bytes'] / 2**20:,.0f} MiB" if "bytes" in row else "–"
        lines.append(
            f"| {row['length']} | {row['features']} | {row['layers']} | {row['batch']} | {row['model']} |"
            f" {1e3 * row['seconds']:.0f} | {row['examples_per_second']:,.0f} | {parameters} | {memory} |"
        )
    return "\n".join(lines) + ("\n\n" + task_table(of_tasks) if of_tasks else "")


def bars(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    found = []
    rows = [row for row in rows if "task" not in row]
    for shape in sorted({row["length"] for row in rows}):
        time = {row["model"]: row["seconds"] for row in rows if row["length"] == shape}
        rival = [seconds for model, seconds in time.items() if "PyTorch" in model]
        if rival:
            found.append((f"L {shape}: gconv / the better of PyTorch's layouts", time["gconv"] / min(rival), 0.8))
    return found
