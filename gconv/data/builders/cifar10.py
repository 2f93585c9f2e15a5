"""CIFAR-10 in grey (Krizhevsky 2009): LRA's Image task. Read from the binary version, so no pickle is loaded."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from gconv.data.builders.archives import ArchiveBuilder, files
from gconv.data.builders.base import Examples
from gconv.errors import UserError

_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_PARTS = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
_ROWS = 10_000  # images in each part
_ROW_BYTES = 1 + 3 * 1024  # the label, then the red, green and blue planes
_HELD_OUT = 5_000  # of the 50,000 training images
_WEIGHTS = np.array([0.2989, 0.5870, 0.1140], np.float32).astype(np.float64)  # of red, green, blue; float64: see `grey`


def grey(rgb: np.ndarray) -> np.ndarray:
    """(images, 3, pixels) uint8 → (images, pixels) uint8, as `tf.image.rgb_to_grayscale` computes it for LRA.

    The same on every machine: each multiply-add is rounded to float32 once, as by a processor that fuses them. A matrix
    product here would round as the BLAS at hand does, which moves some 200 pixels of the whole set by one grey level.
    """
    channels = np.moveaxis(rgb.astype(np.float32) * np.float32(1 / 255), 1, 0)
    luma = np.zeros(channels.shape[1:], np.float32)
    for weight, channel in zip(_WEIGHTS, channels, strict=True):
        luma = (weight * channel + luma).astype(np.float32)
    return np.floor(luma * np.float32(255.5)).astype(np.uint8)


class Cifar10(ArchiveBuilder):
    """`image`: 1024 grey pixels, row by row; `label`: the class. 45,000 / 5,000 / 10,000 images.

    The validation images are drawn from the 50,000 training images by a fixed seed.
    """

    VERSION = tfds.core.Version("1.0.0")
    seed = 0
    URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(1024,), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES),
                    "label": tfds.features.ClassLabel(names=_CLASSES),
                }
            ),
            disable_shuffling=True,
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        )

    def _examples(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Examples]:
        path = self._archive(dl_manager)
        parts = {name.rsplit("/", 1)[-1]: content for name, content in files(path) if name.endswith(".bin")}
        for part in _PARTS:
            size = len(parts.get(part, b""))
            if size != _ROWS * _ROW_BYTES:
                images, expected = size / _ROW_BYTES, f"{_ROWS:,} images of {_ROW_BYTES:,} bytes"
                raise UserError(f"{path}: {part} has {size:,} bytes ({images:,.1f} images) instead of {expected}")
        rows = np.frombuffer(b"".join(parts[part] for part in _PARTS), np.uint8).reshape(-1, _ROW_BYTES)
        if rows[:, 0].max() >= len(_CLASSES):
            bad = int(np.argmax(rows[:, 0] >= len(_CLASSES)))
            raise UserError(f"{path}: image {bad % _ROWS} of {_PARTS[bad // _ROWS]} has label {rows[bad, 0]}, not 0..9")
        train, test = rows[: 5 * _ROWS], rows[5 * _ROWS :]
        order = np.random.RandomState(self.seed).permutation(len(train))
        held_out, kept = np.sort(order[:_HELD_OUT]), np.sort(order[_HELD_OUT:])
        return {
            "train": (len(kept), _images(train[kept])),
            "validation": (len(held_out), _images(train[held_out])),
            "test": (len(test), _images(test)),
        }


def _images(rows: np.ndarray) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"image": grey(row[1:].reshape(1, 3, 1024))[0], "label": int(row[0])}
