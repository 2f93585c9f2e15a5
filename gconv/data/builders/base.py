"""What every builder shares: the places its data can come from, and how it says which one it was."""

from pathlib import Path

import tensorflow_datasets as tfds

from gconv.errors import UserError
from gconv.progress import say

# Where the trees of Long Range Arena's release lie below a folder that a user names. Its archive holds an outer tree
# and a nested one; the nested one is that of the published results, so it comes first.
TREES = ("lra_release/lra_release", "lra_release", ".")

# TFDS sorts what it writes by key, in buckets of a key's leading bits out of 128. Keys a step apart fill the buckets
# evenly; small ones all fall into the first, which is then held in memory as a whole.
KEY_STEP = 1 << 108


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A builder of classified sequences, which are split into train, validation and test.

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
