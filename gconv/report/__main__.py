"""Shows runs, finished or going on: a page to look at, and its tables on the terminal.

    python -m gconv.report RUN [RUN …] [--output=report.html]

The page is one file that needs nothing else: results, curves, what the configs differ in, throughput, memory, and the
time that evaluation and checkpoints took from training. All of it is read from the runs' records.
"""

import shutil
import sys
from pathlib import Path

from absl import flags

from gconv import cli
from gconv.errors import UserError

_OUTPUT = flags.DEFINE_string("output", "report.html", "the page to write")


def main(argv: list[str]) -> None:
    if len(argv) < 2:
        raise UserError("expected run directories: python -m gconv.report RUN [RUN …]")
    from gconv.report import page, runs

    found = runs.read(argv[1:])
    tables = runs.tables(found)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    print("\n\n".join(runs.as_text(table, width) for table in tables))
    try:
        Path(_OUTPUT.value).write_text(page.draw(found, tables))
    except OSError as error:
        raise UserError(f"--output: {_OUTPUT.value} can't be written: {error.strerror}") from error
    print(f"\nthe page: {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
