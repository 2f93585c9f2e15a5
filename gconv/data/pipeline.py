"""Batches as a function of (seed, step): nothing to save, nothing to lose on a resume."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np

from gconv.data.dataset import Split

Array = Any  # np.ndarray on the host, jax.Array on devices
ALL = slice(None)


class Batch(NamedTuple):
    """inputs (batch, length) of unsigned integers; lengths, labels (batch,) int32; weights (batch,) float32, 0 for
    padding rows.

    Of pairs of sequences, inputs are (batch, 2, length) and lengths (batch, 2). Where positions are labelled,
    labels are (batch, length), and −1 where nothing is asked.
    """

    inputs: Array
    lengths: Array
    labels: Array
    weights: Array


class TrainBatches:
    """`batches[step]`: the batch of a step, or of several processes this one's `rows` of it (indices or a slice).

    Every epoch is a new permutation of the examples, and batches run on from one epoch into the next. The permutation
    depends on the seed and the number of examples alone: however many processes there are, the batch is the same.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, rows: np.ndarray | slice = ALL):
        self.split, self._rows = split, rows
        # Grain shuffles epoch e by seed + e: of seeds that lie side by side each would have the next one's epochs.
        far_apart = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._order = grain.MapDataset.range(len(split.labels)).shuffle(seed=far_apart).repeat().batch(batch_size)

    def examples(self, step: int) -> np.ndarray:
        """(batch,) the examples of the whole batch of a step."""
        return self._order[step]

    def __getitem__(self, step: int) -> Batch:
        return _gather(self.split, self.examples(step)[self._rows])


def evaluation_batches(split: Split, batch_size: int, rows: np.ndarray | slice = ALL) -> Iterator[Batch]:
    """Yields every example of a split once, in order; the last batch is filled up with rows of weight 0.

    `rows` as in TrainBatches: of several processes, this one's part of every batch.
    """
    for start in range(0, len(split.labels), batch_size):
        yield _gather(split, np.arange(start, start + batch_size)[rows])


def _gather(split: Split, indices: np.ndarray) -> Batch:
    real = indices < len(split.labels)
    rows = np.where(real, indices, 0)
    return Batch(split.inputs[rows], split.lengths[rows], split.labels[rows], real.astype(np.float32))
