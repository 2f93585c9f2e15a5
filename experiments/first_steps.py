"""The models of Long Range Arena's full setting, each cell of `experiments.lra`, at its full length, width and depth.

    python -m experiments.first_steps [--batch=2] [--steps=3] [--columns=TASK,…] [--row=MODEL …] [--output=DIR]

Each is compiled and takes a few training steps on one small batch of random bytes, at a rate of .0001, which should
lower its loss: that the configs of the full setting build, fit together and train, no more. (With batch norm a batch of
one tells nothing: the mean over an example's positions is what the norm has set it to.) Models that would need more
than half of this machine's memory are compiled and not run; the table says so. What the record in DIR knows of other
tasks and models stays there.
"""

import gc
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import grid, lra
from gconv import cli
from gconv.errors import UserError
from gconv.progress import say
from gconv.training.metrics import device_name, memory_here, read_json, write_json
from gconv.training.timing import compiled_step

RECORD = "full_setting.json"
# A warm-up's first steps would hardly move anything, and the full rates without one leap to and fro.
GENTLE = {"optim.warmup_steps": 0, "optim.lr": 1e-4, "optim.kernel_lr": 1e-4}


def measure(config: ConfigDict, batch: int, steps: int, most_bytes: float) -> dict[str, Any]:
    """What the model is, its compiled step's temporary bytes, and the loss at each of the steps."""
    config.update_from_flattened_dict(GENTLE)
    run, facts = compiled_step(config, batch)
    row = {
        "batch": batch,
        "length": config.data.length,
        **{name: config.model[name] for name in ("layers", "features", "norm")},
        **facts,
    }
    return {**row, "losses": [float(run()["loss"]) for _ in range(steps)] if facts["bytes"] <= most_bytes else None}


def table(record: dict[str, Any]) -> str:
    lines = [
        f"{record['device']}, bf16 products, a rate of {GENTLE['optim.lr']:g}",
        "",
        "| task | model | batch × length | layers × width | parameters | temporary memory | loss, step by step |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in record["rows"]:
        losses = " → ".join(f"{loss:.3f}" for loss in row["losses"]) if row["losses"] else "not run: too much memory"
        lines.append(
            f"| {row['task']} | {row['model']} | {row['batch']} × {row['length']:,} |"
            f" {row['layers']} × {row['features']} | {row['parameters']:,} |"
            f" {row['bytes'] / 2**30:.1f} GiB | {losses} |"
        )
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    flags.DEFINE_integer("batch", 2, "examples a step", lower_bound=1)
    flags.DEFINE_integer("steps", 3, "steps of each model", lower_bound=1)
    flags.DEFINE_list("columns", None, "only these of the tasks")
    flags.DEFINE_multi_string("row", None, "only this of the models; may be repeated")
    flags.DEFINE_string("output", None, "folder for the record and the table")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}")
    batch, chosen = flags.FLAGS.batch, grid.of_columns("lra", flags.FLAGS.columns)
    rows = flags.FLAGS.row or list(chosen.rows)
    if unknown := [row for row in rows if row not in chosen.rows]:
        raise UserError(f"--row: lra has no {unknown[0]!r}; it has {'; '.join(chosen.rows)}")
    chosen = chosen._replace(rows={row: chosen.rows[row] for row in rows})
    if batch % jax.device_count():
        raise UserError(f"--batch ({batch}) must divide by the {jax.device_count()} devices that share it")
    folder = cli.output_folder(flags.FLAGS.output)
    some = flags.FLAGS.columns or flags.FLAGS.row
    known = _known(folder / RECORD, device_name()) if folder is not None and some else {}
    measured = {}
    for row, column, points in grid.runs(chosen, ""):
        of_model = measure(grid.config_of(points[0][0]), batch, flags.FLAGS.steps, memory_here())
        measured[column, row] = {"task": column, "model": row, **of_model}
        say(f"{column} | {row}: {of_model['losses'] or 'not run'}")
        jax.clear_caches()  # the next model needs the memory, so the fast allocator, which keeps it, isn't asked for
        gc.collect()
    every = {**known, **measured}
    cells = [(column, row) for row, column, _ in grid.runs(lra.TABLE, "")]
    record = {"device": device_name(), "rows": [every[cell] for cell in cells if cell in every]}
    print(table(record))
    if folder is not None:
        write_json(folder / RECORD, record)
        (folder / RECORD).with_suffix(".md").write_text(table(record))


def _known(path: Path, device: str) -> dict[tuple[str, str], dict[str, Any]]:
    """A record's rows by task and model; none if it isn't there. UserError if it is of another device."""
    record: dict[str, Any] = read_json(path) if path.exists() else {"device": device, "rows": []}
    if record["device"] != device:
        raise UserError(f"{path} is of {record['device']}, not {device}: measure all, or give another --output")
    return {(row["task"], row["model"]): row for row in record["rows"]}


if __name__ == "__main__":
    define_flags()
    cli.run(main)
