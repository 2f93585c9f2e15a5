"""IMDb reviews as bytes (Maas et al. 2011): LRA's Text task."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from gconv.data.builders.archives import ArchiveBuilder, files
from gconv.data.builders.base import Examples
from gconv.errors import UserError

_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/(\d+)_\d+\.txt")
_ADDRESSES = re.compile(r"aclImdb/(train|test)/urls_(neg|pos)\.txt")
_PER_CLASS = 12_500
_HELD_OUT = 2_500  # of the 25,000 training reviews

Reviews = dict[tuple[int, str], bytes]  # (number, "neg" or "pos") → text


def read(path: Path) -> tuple[dict[str, Reviews], dict[str, bytes]]:
    """The reviews of the train and the test side in the archive, and the lists of their films' addresses by name.

    UserError if there are not 12,500 reviews of each side and class.
    """
    reviews: dict[str, Reviews] = {"train": {}, "test": {}}
    addresses = {}
    for name, content in files(path):
        if match := _REVIEW.fullmatch(name):
            side, label, number = match.groups()
            if (int(number), label) in reviews[side]:
                raise UserError(f"{path}: {name} is a second review {number} of aclImdb/{side}/{label}")
            reviews[side][int(number), label] = content
        elif _ADDRESSES.fullmatch(name):
            addresses[name] = content
    for side, found in reviews.items():
        for label in ("neg", "pos"):
            count = sum(name[1] == label for name in found)
            if count != _PER_CLASS:
                raise UserError(f"{path}: aclImdb/{side}/{label} has {count:,} reviews instead of {_PER_CLASS:,}")
    return reviews, addresses


class Imdb(ArchiveBuilder):
    """`text`: a review's UTF-8 bytes; `label`: 0 negative, 1 positive.

    LRA and its followers validate on the test split. Here a tenth of the training reviews, drawn by a fixed seed, is
    held out instead, and the 25,000 test reviews are left for the end. It is drawn review by review and not film by
    film: reviews of one film can stand on both sides of the validation split, while train and test share almost no
    film, so validation scores are the more optimistic.
    """

    VERSION = tfds.core.Version("1.0.0")
    seed = 0
    URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["neg", "pos"])}
            ),
            disable_shuffling=True,
            homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
        )

    def _examples(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        reviews, _ = read(self._archive(dl_manager))
        train, test = (sorted(reviews[split].items()) for split in ("train", "test"))
        order = np.random.RandomState(self.seed).permutation(len(train))
        held_out, kept = np.sort(order[:_HELD_OUT]), np.sort(order[_HELD_OUT:])
        return {
            "train": (len(kept), _labelled(train[i] for i in kept)),
            "validation": (len(held_out), _labelled(train[i] for i in held_out)),
            "test": (len(test), _labelled(test)),
        }


def _labelled(reviews: Iterable[tuple[tuple[int, str], bytes]]) -> Iterator[dict[str, Any]]:
    for (_, label), text in reviews:
        yield {"text": text, "label": label}
