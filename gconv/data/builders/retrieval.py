"""LRA's Retrieval: does one paper cite the other? Pairs of the ACL Anthology Network (Radev et al. 2009), as bytes."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from gconv.data.builders.base import KEY_STEP, Builder
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

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager
        folder = self._release()
        return {
            "train": self._generate_examples(folder / "new_aan_pairs.train.tsv", _TRAIN),
            "validation": self._generate_examples(folder / "new_aan_pairs.eval.tsv", None),
            "test": self._generate_examples(folder / "new_aan_pairs.test.tsv", None),
        }

    def _generate_examples(self, path: Path, expected: int | None) -> Iterator:
        for index, (text1, text2, label) in enumerate(read(path, expected)):
            yield index * KEY_STEP, {"text1": text1, "text2": text2, "label": label}


def read(path: Path, expected: int | None) -> Iterator[tuple[bytes, bytes, int]]:
    """Yields (text 1, text 2, label) of a file without header or quoting: `label id1 id2 text1 text2`, tab-separated.

    UserError for a line that isn't of that form, and for another number of lines than expected, where that is known.
    """
    pairs = 0
    try:
        with path.open("rb") as lines:
            for pairs, line in enumerate(lines, 1):
                fields = line.removesuffix(b"\n").split(b"\t")
                if len(fields) != 5 or not line.endswith(b"\n"):
                    raise UserError(f"{path}, line {pairs} has {len(fields)} fields or is cut off; expected 5")
                if fields[0] not in (b"0", b"0.0", b"1", b"1.0"):
                    raise UserError(f"{path}, line {pairs}: the label is {fields[0][:20]!r}, not 0.0 or 1.0")
                yield fields[3], fields[4], int(float(fields[0]))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    if pairs != expected and (expected is not None or not pairs):
        raise UserError(f"{path} has {pairs:,} pairs instead of {'some' if expected is None else f'{expected:,}'}")
