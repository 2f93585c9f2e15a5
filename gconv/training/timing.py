"""Interleaved medians: on a noisy machine only ratios within one run mean something."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def medians(
    functions: Mapping[str, Callable[[], Any]], rounds: int, seconds: float, warm_up: int = 2
) -> dict[str, float]:
    """Median seconds of each function, called in turn: for `rounds` rounds, or fewer once `seconds` have passed.

    Each is called `warm_up` times beforehand, to compile and to fault its memory in. It must wait for its result.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    start = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - start > seconds:
            break
        for name, function in functions.items():
            before = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - before)
    return {name: statistics.median(values) for name, values in times.items()}
