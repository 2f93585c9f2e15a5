"""What every builder shares: the places its data can come from, and how it says which one it was."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from gconv.errors import UserError
from gconv.progress import say

# Where the trees of Long Range Arena's release lie below a folder that a user names. Its archive holds an outer tree
# and a nested one; the nested one is that of the published results, so it comes first.
TREES = ("lra_release/lra_release", "lra_release", ".")

SHARD = 4096  # examples that are held in memory until their file is written

Examples = tuple[int, Iterator[dict[str, Any]]]  # how many there are, and they themselves


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder of classified sequences, which are split into train, validation and test.

    Examples go to disk in their order and a shard at a time. TFDS's GeneratorBasedBuilder holds a split in memory to
    shuffle it, and needs TensorFlow once that takes a gigabyte.

    Set before it prepares:
      source: a folder of the user's to read from, instead of downloading or generating.
      parts: a folder for what a long generation has finished, so that an interrupted one goes on from there.
    """

    NEEDS = ""  # what only `source` can give: there is nothing to download or to generate
    RELEASE = ""  # the part of the release that holds this set
    source: Path | None = None
    parts: Path | None = None
    origin = ""  # what was read or generated, known once it is prepared
    seed: int | None = None  # of whatever was drawn at random

    @property
    def recipe(self) -> str:
        """What is generated, and how; "" if nothing is."""
        return ""

    @classmethod
    def find(cls, source: Path) -> Path | None:
        """Where this set lies in a folder that may hold a release; None if it doesn't."""
        return next((source / tree / cls.RELEASE for tree in TREES if (source / tree / cls.RELEASE).exists()), None)

    def _examples(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        """The examples of each split. They are taken one split after another, in the order of the dictionary."""
        raise NotImplementedError

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator]]]:
        shards: dict[str, list[Callable[[], Iterator]]] = {}
        for split, (count, examples) in self._examples(dl_manager).items():
            keyed = enumerate(examples)
            sizes = [SHARD] * ((count - 1) // SHARD) + [None]  # the last one takes the stream to its very end
            shards[split] = [functools.partial(itertools.islice, keyed, size) for size in sizes]
        return shards

    def _release(self) -> Path:
        """This set's part of the release in `source`. UserError if it isn't there, or isn't this variant."""
        assert self.source is not None
        if self.builder_config is not None and self.builder_config.name != self.BUILDER_CONFIGS[0].name:
            raise UserError(f"--source: {self.name}/{self.builder_config.name} is generated only")
        path = self.find(self.source)
        if path is None:
            raise UserError(
                f"{self.name}: {self.RELEASE} not found in {', '.join(str(self.source / t) for t in TREES)}"
            )
        say(f"{self.name}: reading {path}")
        self.origin = f"{self.RELEASE} of Long Range Arena's release"
        return path
