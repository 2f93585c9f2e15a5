"""ListOps as a TFDS builder: generated, from a grammar and a seed."""

import dataclasses
import itertools
import os
from collections.abc import Iterator

import tensorflow_datasets as tfds

from gconv.data.generators import listops
from gconv.progress import track


@dataclasses.dataclass
class Variant(tfds.core.BuilderConfig):
    grammar: listops.Grammar = dataclasses.field(default_factory=listops.Grammar)
    train: int = 96_000
    validation: int = 2_000
    test: int = 2_000
    seed: int = 0


class Listops(tfds.core.GeneratorBasedBuilder):
    """`tokens`: the expression as ids into `generators.listops.VOCABULARY`, a byte each; `label`: its value 0..9.

    All trees of a variant are different, so no split holds a tree of another.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        Variant(name="lra", description="Long Range Arena's definition: 500 < length < 2000, 96k/2k/2k."),
        Variant(
            name="short",
            description="LRA's grammar with 8 < length < 65, for comparisons that a laptop carries.",
            grammar=listops.Grammar(min_length=8, max_length=65),
            train=40_000,
            validation=2_000,
            test=4_000,
        ),
        Variant(
            name="smoke",
            description="A few tiny trees, to see that everything runs.",
            grammar=listops.Grammar(min_length=3, max_length=32, max_depth=4, max_arguments=4),
            train=2_000,
            validation=200,
            test=200,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.builder_config.description,
            features=tfds.features.FeaturesDict(
                {"tokens": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=10)}
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager
        variant = self.builder_config
        total = variant.train + variant.validation + variant.test
        workers = len(os.sched_getaffinity(0)) if total > 20_000 else 1  # processes take a second to start
        trees = listops.generate(variant.grammar, variant.seed, workers)
        trees = track(itertools.islice(trees, total), total, f"generating ListOps ({variant.name})")
        sizes = {"train": variant.train, "validation": variant.validation, "test": variant.test}
        return {split: self._generate_examples(itertools.islice(trees, size)) for split, size in sizes.items()}

    def _generate_examples(self, trees: Iterator[listops.Example]) -> Iterator:
        for index, tree in enumerate(trees):
            yield index, {"tokens": tree.tokens, "label": tree.value}
