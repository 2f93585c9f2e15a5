"""How fast the input pipeline is by itself: what a training step must never wait for."""

import time

from gconv.data.pipeline import TrainBatches
from gconv.data.tasks import Split


def examples_per_second(split: Split, batch_size: int = 64, seconds: float = 2.0) -> float:
    """Examples a second that one process shuffles and gathers into batches on the host, after some to warm up."""
    batches = TrainBatches(split, batch_size, seed=0)
    for step in range(20):
        batches[step]
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        batches[20 + steps]
        steps += 1
    return steps * batch_size / (time.perf_counter() - began)
