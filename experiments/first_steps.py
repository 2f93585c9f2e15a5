"""The models of Long Range Arena's full setting, each cell of `experiments.lra`, at its full length, width and depth.

    python -m experiments.first_steps [--batch=2] [--steps=3] [--output=DIR]

Each is compiled and takes a few training steps on one small batch of random bytes, at a rate of .0001, which should
lower its loss: that the configs of the full setting build, fit together and train, no more. Models that would need more
than half of this machine's memory are compiled and not run; the table says so.
"""

import gc
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import grid, lra
from gconv import cli
from gconv.errors import UserError
from gconv.progress import say
from gconv.training.match import compiled_step
from gconv.training.metrics import device_name, memory_here, write_json

# A warm-up's first steps would hardly move anything, and the full rates without one leap to and fro.
GENTLE = {"optim.warmup_steps": 0, "optim.lr": 1e-4, "optim.kernel_lr": 1e-4}


def measure(config: ConfigDict, batch: int, steps: int, most_bytes: float) -> dict[str, Any]:
    """What the model is, its compiled step's temporary bytes, and the loss at each of the steps."""
    config.update_from_flattened_dict(GENTLE)
    run, facts = compiled_step(config, batch)
    row = {"length": config.data.length, "layers": config.model.layers, "features": config.model.features, **facts}
    return {**row, "losses": [float(run()["loss"]) for _ in range(steps)] if facts["bytes"] <= most_bytes else None}


def table(record: dict[str, Any]) -> str:
    lines = [
        f"{record['device']}, a batch of {record['batch']}, bf16 products, a rate of {GENTLE['optim.lr']:g}",
        "",
        "| task | model | length | layers × width | parameters | temporary memory | loss, step by step |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in record["rows"]:
        losses = " → ".join(f"{loss:.3f}" for loss in row["losses"]) if row["losses"] else "not run: too much memory"
        lines.append(
            f"| {row['task']} | {row['model']} | {row['length']:,} | {row['layers']} × {row['features']} |"
            f" {row['parameters']:,} | {row['bytes'] / 2**30:.1f} GiB | {losses} |"
        )
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    flags.DEFINE_integer("batch", 2, "examples a step", lower_bound=1)
    flags.DEFINE_integer("steps", 3, "steps of each model", lower_bound=1)
    flags.DEFINE_string("output", None, "folder for the record and the table")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}")
    batch, rows = flags.FLAGS.batch, []
    if batch % jax.device_count():
        raise UserError(f"--batch ({batch}) must divide by the {jax.device_count()} devices that share it")
    for row, column, points in grid.runs(lra.TABLE, ""):
        measured = measure(grid.config_of(points[0][0]), batch, flags.FLAGS.steps, memory_here())
        rows.append({"task": column, "model": row, **measured})
        say(f"{column} | {row}: {rows[-1]['losses'] or 'not run'}")
        jax.clear_caches()  # the next model needs the memory, so the fast allocator, which keeps it, isn't asked for
        gc.collect()
    record = {"device": device_name(), "batch": batch, "rows": rows}
    print(table(record))
    if flags.FLAGS.output:
        with cli.output_folder(flags.FLAGS.output) as folder:
            write_json(folder / "full_setting.json", record)
            (folder / "full_setting.md").write_text(table(record))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
