"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_silent = False


def be_silent() -> None:
    """Shows nothing from now on: of several processes that do the same, one tells enough."""
    global _silent
    _silent = True


def say(message: str) -> None:
    """Prints a line to standard error, above a progress bar if there is one."""
    if not _silent:
        tqdm.write(message, file=sys.stderr)
        sys.stderr.flush()


def track(items: Iterable[T], total: int, label: str, seconds: float = 10) -> Iterator[T]:
    """Yields the items of a loop of known length and shows how far it is; off a terminal, a line every `seconds`."""
    # An item counts when it is handed over: whoever takes exactly `total` items never comes back for the end.
    if sys.stderr.isatty():
        with tqdm(total=total, desc=label, dynamic_ncols=True, file=sys.stderr) as bar:
            for item in items:
                bar.update()
                if bar.n == total:
                    bar.close()
                yield item
        return
    said = time.monotonic()
    for count, item in enumerate(items, 1):
        if time.monotonic() - said > seconds or count == total:
            said = time.monotonic()
            say(f"{label}: {count:,} of {total:,}")
        yield item
