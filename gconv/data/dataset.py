"""What a model and a trainer have to know of data, prepared or generated."""

from typing import Any, NamedTuple

import numpy as np

SPLITS = ("train", "validation", "test")


class Split(NamedTuple):
    """inputs (examples, length) of unsigned integers, padded with 0; lengths and labels (examples,) int32.

    Where an example is a pair of sequences, inputs are (examples, 2, length) and lengths (examples, 2). Where positions
    are labelled, labels are (examples, length), and −1 where nothing is asked.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


class Spec(NamedTuple):
    """What a model has to know of its data."""

    length: int  # positions of a sequence, padding included
    classes: int
    vocabulary: int  # number of token ids; 0 for intensities
    documents: int = 1  # sequences of an example: 1, or the 2 of a pair, which are padded to one length
    answers: int = 0  # the most positions of an example that have a label; 0 if the example has one
    through_last: bool = False  # whether they are to be told from the last position's features alone

    @property
    def dtype(self) -> np.dtype:
        """Of the inputs: the smallest unsigned integers that hold every id, or intensity."""
        return np.min_scalar_type((self.vocabulary or 256) - 1)


class Dataset(NamedTuple):
    splits: dict[str, Split]
    spec: Spec
    record: dict[str, Any]  # what a result says of its data: source, content checksum, examples per split
    chance: float  # the accuracy on the test split of whoever has learnt nothing that the task is about
