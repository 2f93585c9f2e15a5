"""The input pipeline by itself, beside what a model trains on: a training step must never wait for it."""

import importlib
import time
from typing import Any

import numpy as np

from gconv.data import tasks
from gconv.data.dataset import Split
from gconv.data.pipeline import TrainBatches
from gconv.training.timing import compiled_step, medians

BATCH, EXAMPLES = 64, 4096
TRAINED = 4  # examples of the model's batch: on a CPU more are hardly faster, and Path-X needs the memory


def examples_per_second(split: Split, batch_size: int, seconds: float) -> float:
    """Examples a second that one process shuffles and gathers into batches on the host, after some to warm up."""
    batches = TrainBatches(split, batch_size, seed=0)
    for step in range(20):
        batches[step]
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        batches[20 + steps]
        steps += 1
    return steps * batch_size / (time.perf_counter() - began)


def measure(seconds: float) -> list[dict[str, Any]]:
    """One row a task that has a config, at its length: random bytes of its shape, whose content costs nothing.

    Beside it, how many a second the task's gconv trains on here.
    """
    rows = []
    for name, task in tasks.TASKS.items():
        try:
            config = importlib.import_module(f"configs.{name}").get_config("gconv")
        except ModuleNotFoundError:
            continue
        length = config.data.length
        shape = (EXAMPLES, length) if len(task.features) == 1 else (EXAMPLES, len(task.features), length)
        inputs = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        split = Split(inputs, np.full(shape[:-1], length, np.int32), np.zeros(EXAMPLES, np.int32))
        rate = examples_per_second(split, BATCH, seconds)
        step, _ = compiled_step(config, TRAINED)
        trained = TRAINED / medians({"step": step}, 3, 0)["step"]
        rows.append(
            {"task": name, "length": length, "documents": len(task.features)}
            | {"examples_per_second": rate, "trained_per_second": trained}
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| task | documents × length | examples/s, batches of {BATCH} | examples/s that gconv trains on |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['task']} | {row['documents']} × {row['length']} | {row['examples_per_second']:,.0f} |"
            f" {row['trained_per_second']:.3g} |"
        )
    return "\n".join(lines)


def bars(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    least = {1024: 10_000, 4096: 4_000}
    return [
        (f"{row['task']}: {least[row['length']]:,} examples/s over those prepared",
         least[row["length"]] / row["examples_per_second"], 1.0)
        for row in rows
        if row["length"] in least
    ]  # fmt: skip
