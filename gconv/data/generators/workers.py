"""Generation in several processes."""

import collections
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def map_in_order(function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """Yields function(*task) of each task, worked out in `workers` processes, a few tasks ahead of a slow consumer.

    BrokenExecutor if one of the processes dies; multiprocessing's Pool would wait forever for what it had taken.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    pending: collections.deque = collections.deque()
    try:
        for task in tasks:
            pending.append(pool.submit(function, *task))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
