"""Prepares data sets ahead of training: python -m gconv.prepare TASK[/VARIANT] --data_dir=DIR [--source=DIR]

TASK is listops, text or image; ListOps has the variants lra (the default), short and smoke. Text and Image are
downloaded from their official addresses, or read from the archives that --source holds.
"""

from absl import flags

from gconv import cli
from gconv.errors import UserError

_DATA_DIR = flags.DEFINE_string("data_dir", "data", "folder of the prepared data sets")
_SOURCE = flags.DEFINE_string("source", None, "folder that holds the official archives, instead of a download")


def main(argv: list[str]) -> None:
    from gconv.data import tasks  # after the flags: a typo shouldn't wait for imports

    if len(argv) != 2:
        raise UserError(f"expected one task: {', '.join(tasks.TASKS)}; got {' '.join(argv[1:]) or 'none'}")
    name, _, variant = argv[1].partition("/")
    if name not in tasks.TASKS:
        raise UserError(f"unknown task {name!r}; expected one of {', '.join(tasks.TASKS)}")
    if not variant and tasks.TASKS[name].builder.BUILDER_CONFIGS:
        variant = tasks.TASKS[name].builder.BUILDER_CONFIGS[0].name
    folder = tasks.prepare(name, variant, _DATA_DIR.value, _SOURCE.value)
    print(f"{name}: prepared in {folder}")


if __name__ == "__main__":
    cli.run(main)
