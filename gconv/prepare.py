"""Prepares data sets ahead of training, and shows them.

    python -m gconv.prepare TASK[/VARIANT] --data_dir=DIR [--source=DIR]
    python -m gconv.prepare all --data_dir=DIR [--source=DIR]
    python -m gconv.prepare --show TASK[/VARIANT] --data_dir=DIR [--sheet=FILE.png]

--source names a folder with Long Range Arena's release, unpacked, or with the archives of IMDb and CIFAR-10. Without it
archives are downloaded from their official addresses; ListOps, Pathfinder and Path-X are generated. VARIANT is `lra`,
which is meant where none is named, `short`, which the small setting of ListOps and Pathfinder has, or `smoke`. `all`
prepares whatever can be had of the first, and says of each other task what it needs. --show draws a sheet of examples
and histograms.
"""

import sys
from pathlib import Path

from absl import flags

from gconv import cli
from gconv.errors import UserError

_DATA_DIR = flags.DEFINE_string("data_dir", "data", "folder of the prepared data sets")
_SOURCE = flags.DEFINE_string("source", None, "folder that holds LRA's release or the official archives")
_SHOW = flags.DEFINE_bool("show", False, "draw a sheet of the task's examples instead")
_SHEET = flags.DEFINE_string("sheet", None, "PNG file to draw; by default TASK.png in the data folder")


def main(argv: list[str]) -> None:
    from gconv.data import tasks  # after the flags: a typo shouldn't wait for imports

    if len(argv) != 2:
        raise UserError(f"expected one task: {', '.join(tasks.TASKS)}, or all; got {' '.join(argv[1:]) or 'none'}")
    if not _DATA_DIR.value:
        raise UserError("--data_dir must name a folder; it is empty")
    if _SHEET.value and not _SHOW.value:
        raise UserError("--sheet names the file that --show draws; give both")
    if argv[1] == "all" and _SHOW.value:
        raise UserError("--show draws one task at a time; got all")
    if argv[1] == "all":
        sys.exit(_prepare_all())
    name, _, variant = argv[1].partition("/")
    if name not in tasks.TASKS:
        raise UserError(f"unknown task {name!r}; expected one of {', '.join(tasks.TASKS)}, or all")
    variant = variant or tasks.default_variant(name)
    folder = tasks.prepare(name, variant, _DATA_DIR.value, _SOURCE.value)
    if _SHOW.value:
        from gconv.data.show import draw_sheet

        path = Path(_SHEET.value or Path(_DATA_DIR.value) / f"{argv[1].replace('/', '_')}.png")
        draw_sheet(name, variant, _DATA_DIR.value, path)
        print(f"{name}: drawn in {path}")
    else:
        print(f"{name}: prepared in {folder}")


def _prepare_all() -> int:
    """Prepares every task that can be had, with a line for each. The exit status: 1 if one that can be had failed."""
    from gconv.data import tasks

    if _SOURCE.value is not None and not Path(_SOURCE.value).is_dir():
        raise UserError(f"--source: {_SOURCE.value} is no folder")
    failed = 0
    for name, task in tasks.TASKS.items():
        found = _SOURCE.value is not None and tasks.can_be_read(name, _SOURCE.value)
        if task.builder.NEEDS and not found and not tasks.is_prepared(name, _DATA_DIR.value):
            print(f"{name}: not prepared; it needs {task.builder.NEEDS}, in --source", flush=True)
            continue
        if task.by_name_only and not found:
            print(f"{name}: left out, {task.by_name_only}; python -m gconv.prepare {name} makes it", flush=True)
            continue
        try:
            variant = tasks.default_variant(name)
            folder = tasks.prepare(name, variant, _DATA_DIR.value, _SOURCE.value if found else None)
            source = tasks.manifest(name, variant, _DATA_DIR.value)["source"]
            print(f"{name}: prepared in {folder}, {source}", flush=True)
        except UserError as error:
            failed += 1
            print(f"{name}: FAILED: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
