"""What run directories hold, and the tables of it."""

import math
import os
import re
import statistics
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from gconv.errors import UserError
from gconv.training.metrics import read_json, read_jsonl, read_result

NOTHING = "–"
UNFINISHED = "unfinished"


class Run(NamedTuple):
    name: str  # as short as tells it from the others
    config: dict[str, Any]
    environment: dict[str, Any]  # run.json
    data: dict[str, Any]
    metrics: list[dict[str, Any]]
    timings: list[dict[str, Any]]
    result: dict[str, Any] | None  # None while it isn't finished
    failed: str | None = None  # why it can't go on

    def of(self, split: str) -> list[dict[str, Any]]:
        return [record for record in self.metrics if record["split"] == split]

    @property
    def step(self) -> int:
        """The last one that has a record."""
        return max((record["step"] for record in self.metrics), default=0)

    @property
    def speeds(self) -> list[tuple[int, float]]:
        """(step, examples a second in the interval that ends there)."""
        return [(r["step"], r["examples"] / r["seconds"]) for r in self.timings if "examples" in r]

    @property
    def pauses(self) -> list[dict[str, Any]]:
        return [record for record in self.timings if "evaluation" in record]


class Table(NamedTuple):
    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str = ""


class Times(NamedTuple):
    """Seconds of the steps that count: what was done again after an interruption is not in the records twice."""

    training: float
    evaluation: float
    checkpoints: float


def read(folders: list[str]) -> list[Run]:
    """The runs in these folders. UserError if one holds none."""
    paths = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    parent = os.path.commonpath([path.parent for path in paths])
    found = []
    for path in paths:
        if not (path / "config.json").exists():
            raise UserError(f"{path} holds no run that has started: it has no config.json")
        config = read_json(path / "config.json")
        if not isinstance(config, dict) or not {"steps", "data", "mixer", "seed"} <= config.keys():
            raise UserError(f"{path} holds no run: its config.json isn't one of gconv's")
        run = Run(
            os.path.relpath(path, parent),
            config,
            read_json(path / "run.json"),
            read_json(path / "data.json"),
            read_jsonl(path / "metrics.jsonl"),
            read_jsonl(path / "timings.jsonl"),
            read_result(path / "result.json") if (path / "result.json").exists() else None,
            (path / "failed").read_text().strip() if (path / "failed").exists() else None,
        )
        found.append(run)
    return found


def wilson_interval(accuracy: float, examples: int) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927): what the finite test split leaves open, not the seed."""
    z2 = 1.959964**2
    centre = (accuracy + z2 / (2 * examples)) / (1 + z2 / examples)
    spread = math.sqrt(accuracy * (1 - accuracy) / examples + z2 / (4 * examples**2))
    spread *= math.sqrt(z2) / (1 + z2 / examples)
    return centre - spread, centre + spread


def times(run: Run) -> Times:
    return Times(
        sum(record["seconds"] for record in run.timings if "examples" in record),
        sum(record["evaluation"] for record in run.pauses),
        sum(record["checkpoint"] for record in run.pauses),
    )


def tables(runs: list[Run]) -> list[Table]:
    """Results, costs, and what the runs differ in."""
    return [_results(runs), _costs(runs), *_differences(runs)]


def _results(runs: list[Run]) -> Table:
    heads = ["run", "state", "task", "mixer", "seed", "test accuracy", "95% interval", "chance", "best validation"]
    rows = []
    for run in runs:
        config, result = run.config, run.result
        state = "finished" if result else f"failed: {run.failed}" if run.failed else UNFINISHED
        row = [run.name, f"{state}, {run.step:,} of {config['steps']:,} steps", config["data"]["name"]]
        row += [config["mixer"], str(config["seed"])]
        if result:
            # Of examples, also where each has several answers: those of one example aren't independent.
            low, high = wilson_interval(result["test_accuracy"], result["data"]["examples"]["test"])
            row += [_percent(result["test_accuracy"]), f"{100 * low:.1f} – {100 * high:.1f}%"]
            row += [_percent(result["chance"])]
        else:
            row += [NOTHING] * 3
        best = max((record["accuracy"] for record in run.of("validation")), default=None)
        rows.append([*row, NOTHING if best is None else _percent(best)])
    note = "Intervals are those of the finite test split; another seed can move a score by more."
    return Table("Results", [*heads, "last training loss"], _with_last_loss(rows, runs), note)


def _with_last_loss(rows: list[list[str]], runs: list[Run]) -> list[list[str]]:
    losses = [[record["loss"] for record in run.of("train")] for run in runs]
    return [[*row, f"{loss[-1]:.4f}" if loss else NOTHING] for row, loss in zip(rows, losses, strict=True)]


def _costs(runs: list[Run]) -> Table:
    heads = ["run", "parameters", "FLOPs/token", "with direct convolution", "examples/s", "peak memory"]
    heads += ["training", "evaluation", "checkpoints", "lost", "devices"]
    rows = []
    for run in runs:
        row = [run.name]
        if run.result:
            row += [f"{run.result[name]:,.0f}" for name in ("parameters", "flops_per_token", "flops_per_token_direct")]
        else:
            row += [NOTHING] * 3
        row.append(f"{statistics.median(speed for _, speed in run.speeds):,.0f}" if run.speeds else NOTHING)
        row.append(f"{run.result['peak_memory_bytes'] / 2**20:,.0f} MiB" if run.result else NOTHING)
        spent = times(run)
        row.append(duration(spent.training) if run.speeds else NOTHING)
        if run.pauses and run.speeds:
            lost = (spent.evaluation + spent.checkpoints) / sum(spent)
            row += [duration(spent.evaluation), duration(spent.checkpoints), _percent(lost)]
        else:
            row += [NOTHING] * 3
        count = run.environment["devices"]
        rows.append([*row, (f"{count} × " if count > 1 else "") + run.environment["device"]])
    note = (
        "FLOPs of a forward pass, convolutions by FFT or as their sum; the median of examples a second; memory of a"
        " compiled step on one device. Checkpoints are written in the background: their time is what training waited"
        " for them."
    )
    return Table("Costs", heads, rows, note)


def _differences(runs: list[Run]) -> list[Table]:
    """A row for each field in which the runs' configs, data or environments differ; no table if there is none."""
    fields: dict[str, list[str]] = {}
    for place, run in enumerate(runs):
        found = {"config": run.config, "data": run.data, "run": {**run.environment, "command": ""}}
        for name, value in _flat(found):
            fields.setdefault(name, [NOTHING] * len(runs))[place] = value
    rows = [[name, *values] for name, values in sorted(fields.items()) if len(set(values)) > 1]
    if not rows:
        return []
    return [Table("What the runs differ in", ["field", *(run.name for run in runs)], rows)]


def _flat(tree: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in _flat(tree[key], f"{path}.{key}" if path else key)]
    return [(path, re.sub(r"^gconv\.models\.(\w+\.)+", "", str(tree)))]  # of our classes the name


def as_text(table: Table, width: int) -> str:
    """A table for a terminal of that many characters: numbers to the right, and the first column to the left.

    Columns for which there is no room follow below, beside the first one again.
    """
    rows = [table.heads, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heads))]
    blocks = [[0]]
    for column in range(1, len(widths)):
        if len(blocks[-1]) > 1 and sum(2 + widths[shown] for shown in [*blocks[-1], column]) - 2 > width:
            blocks.append([0])
        blocks[-1].append(column)
    parts = []
    for block in blocks:
        lines = (
            "  ".join(row[c].rjust(widths[c]) if c else row[c].ljust(widths[c]) for c in block).rstrip() for row in rows
        )
        parts.append("\n".join(lines))
    return "\n\n".join([table.title, *parts, *([textwrap.fill(table.note, min(100, width))] if table.note else [])])


def duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
