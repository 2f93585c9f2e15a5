"""Batches as a function of (seed, step): nothing to save, nothing to lose on a resume."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np

from gconv.data.tasks import Split

Array = Any  # np.ndarray on the host, jax.Array on devices


class Batch(NamedTuple):
    """inputs (batch, length) uint8; lengths, labels (batch,) int32; weights (batch,) float32, 0 for padding rows.

    Of pairs of sequences, inputs are (batch, 2, length) and lengths (batch, 2).
    """

    inputs: Array
    lengths: Array
    labels: Array
    weights: Array


class TrainBatches:
    """`batches[step]`: this process's rows of the batch of a step.

    Every epoch is a new permutation of the examples, and batches run on from one epoch into the next. The permutation
    depends on the seed and the number of examples alone; processes take different rows of one global batch.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, process: int = 0, processes: int = 1):
        self._split = split
        self._indices = grain.MapDataset.range(len(split.labels)).shuffle(seed=seed).repeat().batch(batch_size)
        self._rows = slice(process * batch_size // processes, (process + 1) * batch_size // processes)

    def __getitem__(self, step: int) -> Batch:
        return _gather(self._split, self._indices[step][self._rows])


def evaluation_batches(split: Split, batch_size: int, process: int = 0, processes: int = 1) -> Iterator[Batch]:
    """Yields every example of a split once, in order; the last batch is filled up with rows of weight 0."""
    examples = len(split.labels)
    for start in range(0, examples, batch_size):
        rows = slice(start + process * batch_size // processes, start + (process + 1) * batch_size // processes)
        yield _gather(split, np.arange(rows.start, rows.stop))


def _gather(split: Split, indices: np.ndarray) -> Batch:
    real = indices < len(split.labels)
    rows = np.where(real, indices, 0)
    return Batch(split.inputs[rows], split.lengths[rows], split.labels[rows], real.astype(np.float32))
