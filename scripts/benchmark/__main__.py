"""Measures speed: python -m scripts.benchmark ops|block|step|full|data [--output=DIR]

ops   global_conv, every boundary in both layouts and its other methods around a circle, over length 16 to 65,536,
      beside the convolutions and the attention of JAX and (where it is installed) PyTorch: time forward and with
      gradient, GB/s, memory, error against float64; on a CPU also with the batch split over the cores, a device each
block training steps of one layer of gconv and of attention, with their dense layers, over the same lengths
step  whole training steps of gconv, of attention and of the same gconv block in PyTorch; and of every mixer at the
      shape of every task, at equal parameters. On a CPU the cores are two devices
full  a training step of each model of Long Range Arena's full setting, and so the minutes of all its steps: for an
      accelerator; --columns=Text,Image takes some tasks
data  the input pipeline by itself, at each task's shape

All methods of a length are timed in turn, but for those that take seconds, in one process with one allocator; what
counts is a ratio within one run.
--output keeps the record (JSON), the table (Markdown) and, for ops, a plot. Of full it keeps what the record there has
of other models, timed on the same device, and its note.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from gconv import cli
from gconv.cores import usable_cores
from gconv.errors import UserError

_OUTPUT = flags.DEFINE_string("output", None, "folder for the record, the table and the plot")
_LENGTHS = flags.DEFINE_list("lengths", None, "ops and block: only these lengths")
_COLUMNS = flags.DEFINE_list("columns", None, "full: only these tasks")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "most rounds that a median is taken over", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 20, "seconds after which a median makes do with fewer", lower_bound=0)


DTYPES = {"ops": "float32 where it doesn't say bf16", "full": "bfloat16"}


def main(argv: list[str]) -> None:
    if len(argv) != 2 or argv[1] not in ("ops", "block", "step", "full", "data"):
        raise UserError(f"expected ops, block, step, full or data; got {' '.join(argv[1:]) or 'nothing'}")
    what = argv[1]
    for flag, meant in ((_LENGTHS, ("ops", "block")), (_COLUMNS, ("full",))):
        if flag.value is not None and what not in meant:
            raise UserError(f"--{flag.name} is of {' and '.join(meant)}; {what} has no use for it")
    folder = cli.output_folder(_OUTPUT.value)
    import jax
    import jaxlib

    cores = len(usable_cores())
    if what != "data":  # every batch of a step but Path-X's divides by two, and every width
        jax.config.update("jax_num_cpu_devices", cores if what == "ops" else min(cores, 2))
    from gconv.training.metrics import device_name, memory_here
    from scripts.benchmark import block, full_setting, operator, pipeline, rivals, training_step

    device = device_name()
    kept = _kept(folder, device) if what == "full" else {}
    rows: list[dict[str, Any]] = []
    found: list[tuple[str, float, float]] = []
    if what == "ops":
        lengths = _lengths(operator.LENGTHS)
        for length in lengths:
            rows += operator.measure(length, _ROUNDS.value, _SECONDS.value)
        text = "\n\n".join(show(rows) for show in (operator.table, operator.by_method, operator.crossovers))
        if {1024, 4096} <= set(lengths):
            found = operator.bars(rows)
    elif what == "block":
        for length in _lengths(block.LENGTHS):
            rows += block.measure(length, _ROUNDS.value, min(_SECONDS.value, 10))
        text = block.table(rows)
    elif what == "step":
        for shape in training_step.SHAPES:
            rows += training_step.measure(shape, _ROUNDS.value, _SECONDS.value)
        for task in training_step.TASKS:
            rows += training_step.measure_task(task, _ROUNDS.value, min(_SECONDS.value, 5), memory_here())
        text, found = training_step.table(rows), training_step.bars(rows)
    elif what == "full":
        rows = full_setting.measure(_COLUMNS.value, _ROUNDS.value, min(_SECONDS.value, 5), memory_here())
        rows = full_setting.merged(kept.get("rows", []), rows)
        text = (f"{kept['note']}\n\n" if "note" in kept else "") + full_setting.table(rows)
    else:
        rows = pipeline.measure(min(_SECONDS.value, 3.0))
        text, found = pipeline.table(rows), pipeline.bars(rows)
    torch = rivals.torch_or_none()
    versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "torch": torch and str(torch.__version__)}
    report = (
        f"{device}, {', '.join(f'{k} {v}' for k, v in versions.items())}, {DTYPES.get(what, 'float32')}\n\n{text}\n"
    )
    if found:
        report += "\n| goal | measured | bound | |\n|---|---:|---:|---|\n"
    for goal, ratio, bound in found:
        report += f"| {goal} | {ratio:.3g} | {bound:.3g} | {'met' if ratio <= bound else 'MISSED'} |\n"
    print(report)
    if folder is not None:
        record = {**kept, "device": device, "versions": versions, "rows": rows, "goals": found}
        (folder / f"{what}.json").write_text(json.dumps(record, indent=1) + "\n")
        (folder / f"{what}.md").write_text(report)
        if what == "ops":
            (folder / "by_length.md").write_text(operator.by_length(rows))
            operator.draw(rows, device, str(folder / "ops.png"))
        print(f"written to {folder}")


def _kept(folder: Path | None, device: str) -> dict[str, Any]:
    """The record of full models that the folder has; UserError if it is another device's."""
    if folder is None or not (folder / "full.json").exists():
        return {}
    record = json.loads((folder / "full.json").read_text())
    if record["device"] != device:
        raise UserError(f"--output: {folder}/full.json is of {record['device']}; this is {device}")
    return record


def _lengths(default: tuple[int, ...]) -> list[int]:
    for length in _LENGTHS.value or ():
        if not length.isdecimal() or int(length) < 2:
            raise UserError(f"--lengths: expected whole numbers from 2 on; got {length!r}")
    return [int(length) for length in _LENGTHS.value or default]


if __name__ == "__main__":
    cli.restart_with_fast_malloc()
    cli.run(main)
