"""LRA's Retrieval: does one paper cite the other? Pairs of the ACL Anthology Network (Radev et al. 2009), as bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from gconv.data.builders.base import Builder, Examples
from gconv.errors import UserError

_TRAIN = 147_086  # pairs


class Retrieval(Builder):
    """`text1`, `text2`: the bytes of two papers; `label`: 1 if they are linked. Read from LRA's release only."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE = "tsv_data"
    NEEDS = "Long Range Arena's release (lra_release.gz, unpacked), the only source of its document pairs"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "text1": tfds.features.Text(),
                    "text2": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(num_classes=2),
                }
            ),
            disable_shuffling=True,
            homepage="https://github.com/google-research/long-range-arena",
        )

    def _examples(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        del dl_manager
        folder = self._release()
        names = {"train": "train", "validation": "eval", "test": "test"}
        paths = {split: folder / f"new_aan_pairs.{name}.tsv" for split, name in names.items()}
        counts = {split: _lines(path) for split, path in paths.items()}
        if counts["train"] != _TRAIN:
            raise UserError(f"{paths['train']} has {counts['train']:,} pairs instead of {_TRAIN:,}")
        return {split: (counts[split], read(path)) for split, path in paths.items()}


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as lines:
            return sum(1 for _ in lines)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the pairs of a file without header or quoting, `label id1 id2 text1 text2` with tabs between.

    UserError for a line that isn't of that form.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.removesuffix(b"\n").split(b"\t")
            if len(fields) != 5 or not line.endswith(b"\n"):
                raise UserError(f"{path}, line {number} has {len(fields)} fields or is cut off; expected 5")
            if fields[0] not in (b"0", b"0.0", b"1", b"1.0"):
                raise UserError(f"{path}, line {number}: the label is {fields[0][:20]!r}, not 0.0 or 1.0")
            yield {"text1": fields[3], "text2": fields[4], "label": int(float(fields[0]))}
