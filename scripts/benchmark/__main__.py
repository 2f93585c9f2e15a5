"""Measures speed: python -m scripts.benchmark ops|step [--output=DIR]

ops   global_conv, every boundary and layout, over length 16 to 65,536, beside the convolutions and the attention of JAX
      and (where it is installed) PyTorch: time forward and with gradient, GB/s, memory, error against float64
step  whole training steps of gconv, of attention and of the same gconv block in PyTorch

All methods of a length are timed in turn, in one process with one allocator; what counts is a ratio within one run.
--output keeps the record (JSON), the table (Markdown) and, for ops, a plot.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from gconv import cli
from gconv.errors import UserError

_OUTPUT = flags.DEFINE_string("output", None, "folder for the record, the table and the plot")
_LENGTHS = flags.DEFINE_list("lengths", None, "ops: only these lengths")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "most rounds that a median is taken over", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 20, "seconds after which a median makes do with fewer", lower_bound=0)


def main(argv: list[str]) -> None:
    if len(argv) != 2 or argv[1] not in ("ops", "step"):
        raise UserError(f"expected ops or step; got {' '.join(argv[1:]) or 'nothing'}")
    import jax
    import jaxlib

    from gconv.training.metrics import device_name
    from scripts.benchmark import operator, rivals, training_step

    rows: list[dict[str, Any]] = []
    if argv[1] == "ops":
        try:
            lengths = [int(length) for length in _LENGTHS.value or operator.LENGTHS]
        except ValueError as error:
            raise UserError(f"--lengths: {error}") from error
        for length in lengths:
            rows += operator.measure(length, _ROUNDS.value, _SECONDS.value)
        text = operator.table(rows)
        found = operator.bars(rows) if {1024, 4096, 16384} <= set(lengths) else []
    else:
        for shape in training_step.SHAPES:
            rows += training_step.measure(shape, _ROUNDS.value, _SECONDS.value)
        text, found = training_step.table(rows), training_step.bars(rows)
    torch = rivals.torch_or_none()
    versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "torch": torch and str(torch.__version__)}
    device = device_name()
    goals = "\n".join(
        ["| goal | measured | bound | |", "|---|---:|---:|---|"]
        + [
            f"| {what} | {ratio:.3g} | {bound:.3g} | {'met' if ratio <= bound else 'MISSED'} |"
            for what, ratio, bound in found
        ]
    )
    report = f"{device}, {', '.join(f'{k} {v}' for k, v in versions.items())}, float32\n\n{text}\n"
    report += f"\n{goals}\n" if found else ""
    print(report)
    if _OUTPUT.value:
        folder = Path(_OUTPUT.value)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"device": device, "versions": versions, "rows": rows, "goals": found}
        (folder / f"{argv[1]}.json").write_text(json.dumps(record, indent=1) + "\n")
        (folder / f"{argv[1]}.md").write_text(report)
        if argv[1] == "ops":
            operator.draw(rows, device, str(folder / "ops.png"))
        print(f"written to {folder}")


if __name__ == "__main__":
    cli.restart_with_fast_malloc()
    cli.run(main)
