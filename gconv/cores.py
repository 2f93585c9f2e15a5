"""The processor cores there are for this process."""

import os


def usable_cores() -> list[int]:
    """The cores that this process may run on; all of the machine's where the system doesn't say, as macOS doesn't."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
