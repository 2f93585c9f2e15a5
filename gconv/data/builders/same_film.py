"""Are these two reviews of the same film? A task of LRA Retrieval's form on IMDb's reviews (Maas et al. 2011)."""

import collections
import itertools
import random
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from gconv.data.builders.archives import ArchiveBuilder
from gconv.data.builders.base import Examples
from gconv.data.builders.imdb import Imdb, Reviews, read
from gconv.errors import UserError

_FILM = re.compile(r"/title/(tt\d+)")
_PAIRS = {"train": 100_000, "validation": 5_000, "test": 20_000}  # at most, of both classes together
_PER_REVIEW = 3  # pairs of a film with itself, so that films with many reviews don't fill the set
_HELD_OUT = 10  # one film of so many is for validation

Key = tuple[int, str]  # of a review
Pair = tuple[Key, Key]


class SameFilm(ArchiveBuilder):
    """`text1`, `text2`: the bytes of two reviews; `label`: 1 if they are of the same film.

    A substitute for LRA's Retrieval, whose documents can't be had without LRA's release, and no measure of it. The
    archive lists the film of each review. Test pairs come from its test side, which shares almost no film with its
    train side; a tenth of the films of the train side is held out for validation, with all their reviews.

    Half of the pairs are of label 1. The others are those same pairs with their second reviews exchanged, among pairs
    whose second reviews are of one sentiment. So every review stands first and second as often under either label,
    and neither a single review nor two sentiments say anything about the label.
    """

    VERSION = tfds.core.Version("1.0.0")
    seed = 0
    URL = Imdb.URL

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "text1": tfds.features.Text(),
                    "text2": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=["different", "same"]),
                }
            ),
            disable_shuffling=True,
            homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
        )

    def _examples(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        path = self._archive(dl_manager)
        reviews, addresses = read(path)
        films: dict[str, dict[str, list[Key]]] = {}
        for side, found in reviews.items():
            lists = {label: addresses.get(f"aclImdb/{side}/urls_{label}.txt", b"").decode() for label in ("neg", "pos")}
            titles = {label: _FILM.findall(text) for label, text in lists.items()}
            for label, listed in titles.items():
                count = sum(key[1] == label for key in found)
                if len(listed) != count:
                    name = f"aclImdb/{side}/urls_{label}.txt"
                    raise UserError(f"{path}: {name} names the films of {len(listed):,} reviews instead of {count:,}")
            films[side] = collections.defaultdict(list)
            for number, label in sorted(found):
                films[side][titles[label][number]].append((number, label))
        self.origin = f"pairs drawn with seed {self.seed} from {self.origin}; not LRA's Retrieval"
        rng = random.Random(self.seed)
        titles_in_order = sorted(films["train"])
        rng.shuffle(titles_in_order)
        held_out = set(titles_in_order[: len(titles_in_order) // _HELD_OUT])
        groups = {
            "train": [films["train"][title] for title in titles_in_order if title not in held_out],
            "validation": [films["train"][title] for title in titles_in_order if title in held_out],
            "test": [films["test"][title] for title in sorted(films["test"])],
        }
        drawn = {split: pairs(groups[split], _PAIRS[split], rng) for split in groups}
        sides = {"train": "train", "validation": "train", "test": "test"}
        return {split: (len(drawn[split]), _texts(drawn[split], reviews[sides[split]])) for split in groups}


def _texts(drawn: list[tuple[Pair, int]], reviews: Reviews) -> Iterator[dict[str, Any]]:
    for (first, second), label in drawn:
        yield {"text1": reviews[first], "text2": reviews[second], "label": label}


def pairs(films: list[list[Key]], count: int, rng: random.Random) -> list[tuple[Pair, int]]:
    """At most `count` pairs of reviews with their label, 1 for one film, in random order. films: reviews of each."""
    film_of = {key: film for film, keys in enumerate(films) for key in keys}
    same: list[Pair] = []
    for keys in films:
        candidates = list(itertools.combinations(keys, 2))
        same += rng.sample(candidates, min(len(candidates), _PER_REVIEW * len(keys)))
    same = [pair if rng.random() < 0.5 else pair[::-1] for pair in rng.sample(same, min(len(same), count // 2))]
    drawn = [(pair, 1) for pair in same]
    for sentiment in ("neg", "pos"):
        group = sorted((pair for pair in same if pair[1][1] == sentiment), key=lambda pair: film_of[pair[1]])
        sizes = collections.Counter(film_of[second] for _, second in group)
        shift = max(sizes.values(), default=0)  # in order of films, so far away is always another film
        if 2 * shift > len(group):
            raise ValueError(f"more than half of the {sentiment} reviews are of one film")
        drawn += [((first, group[(i + shift) % len(group)][1]), 0) for i, (first, _) in enumerate(group)]
    rng.shuffle(drawn)
    return drawn
