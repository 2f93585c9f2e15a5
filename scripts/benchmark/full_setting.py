"""A training step of every model of Long Range Arena's full setting, and from it the minutes of its whole training."""

from collections.abc import Sequence
from typing import Any

from experiments import grid, lra
from gconv.training.timing import compiled_step, medians


def measure(columns: Sequence[str] | None, rounds: int, seconds: float, most_bytes: float) -> list[dict[str, Any]]:
    """One row a model, as `training_step.measure_task`'s: none is timed whose step needs more than most_bytes."""
    rows = []
    for row, column, points in grid.runs(grid.of_columns("lra", columns), ""):
        config = grid.config_of(points[0][0])
        step, facts = compiled_step(config, config.batch_size)
        measured = {"task": column, "model": row, "batch": config.batch_size, "steps": config.steps, **facts}
        if facts["bytes"] <= most_bytes:
            measured["seconds"] = medians({"step": step}, rounds, seconds)["step"]
        rows.append(measured)
    return rows


def merged(known: list[dict[str, Any]], measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows known and measured, of a model on a task the measured one, in the order of the table."""
    of_model = {(row["task"], row["model"]): row for row in (*known, *measured)}
    order = [(column, row) for row, column, _ in grid.runs(grid.table("lra"), "")]
    return [of_model[cell] for cell in order if cell in of_model]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| task | model | batch | steps | ms a step | examples/s | temporary memory | minutes of all its steps |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if "seconds" in row:
            speed = f"{1e3 * row['seconds']:.1f} | {row['batch'] / row['seconds']:,.0f}"
            minutes = f"{lra.minutes(row):.0f}"
        else:
            speed, minutes = "not run: too large | –", "–"
        lines.append(
            f"| {row['task']} | {row['model']} | {row['batch']} | {row['steps']:,} | {speed} |"
            f" {row['bytes'] / 2**30:.1f} GiB | {minutes} |"
        )
    return "\n".join(lines)
