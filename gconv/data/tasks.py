"""The tasks: what each data set is, where it is kept, and how it is prepared, checked and loaded.

A prepared set is a TFDS data set (ArrayRecord) with a manifest beside it, in DATA_DIR/NAME/[VARIANT/]VERSION. It
appears under that name only once it is whole, and is checked against its manifest whenever it is loaded.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from gconv.data.builders.archives import ArchiveBuilder
from gconv.data.builders.cifar10 import Cifar10
from gconv.data.builders.imdb import Imdb
from gconv.data.builders.listops import Listops
from gconv.data.generators import listops, stand_in
from gconv.errors import UserError
from gconv.progress import say

SPLITS = ("train", "validation", "test")
MANIFEST = "manifest.json"

tfds.disable_progress_bar()  # its bars don't know how much there is to come; ours do


class Task(NamedTuple):
    """A classification task over sequences of bytes."""

    builder: type[tfds.core.GeneratorBasedBuilder]
    feature: str  # of the builder, that holds the sequence
    classes: int
    vocabulary: int  # number of token ids; 0 where a byte is an intensity
    truncate: bool  # whether a longer sequence is cut, or refused because its label would no longer hold
    stand_in: Callable[[int, int], list[tuple[bytes, int]]] | None = None


TASKS = {
    "listops": Task(Listops, "tokens", 10, len(listops.VOCABULARY), truncate=False),
    "text": Task(Imdb, "text", 2, 256, truncate=True, stand_in=stand_in.text),
    "image": Task(Cifar10, "image", 10, 0, truncate=False, stand_in=stand_in.image),
}


class Split(NamedTuple):
    """inputs (examples, length) uint8, padded with 0; lengths and labels (examples,) int32."""

    inputs: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


class Spec(NamedTuple):
    """What a model has to know of its data."""

    length: int  # positions, padding included
    classes: int
    vocabulary: int  # number of token ids; 0 for intensities


class Dataset(NamedTuple):
    splits: dict[str, Split]
    spec: Spec
    record: dict[str, Any]  # what a result says of its data: source, content checksum, examples per split

    @property
    def chance(self) -> float:
        """The share of the test split's largest class: what guessing it would score."""
        labels = self.splits["test"].labels
        return float(np.bincount(labels).max() / len(labels))


def load(name: str, variant: str, length: int, limit: int, allow_stand_in: bool, data_dir: str) -> Dataset:
    """Loads a task's three splits into memory, preparing the set first if it is missing.

    Args:
      name: a key of TASKS; variant: of its builder, or "" where there is one only.
      length: sequences are padded, and where the task allows it cut, to this many positions.
      limit: at most so many examples of each split, the first ones; 0 for all.
      allow_stand_in: whether made-up data may stand in for a set that isn't prepared.
      data_dir: folder of the prepared sets.
    """
    task = TASKS[name]
    if allow_stand_in and task.stand_in is not None and not _exists(_folder(task, variant, data_dir)):
        source = f"stand-in: generated, not {task.builder.name}"
        say(f"{name}: {data_dir} holds no prepared set; using a small {source}")
        content = {split: task.stand_in(limit or 1000, seed) for seed, split in enumerate(SPLITS)}
        digests = {split: _digest(examples) for split, examples in content.items()}
    else:
        prepare(name, variant, data_dir)
        folder = _folder(task, variant, data_dir)
        manifest = _read_manifest(folder)
        source = manifest["source"]
        content, digests = _read(task, variant, data_dir), {}
        for split in SPLITS:
            digests[split] = _digest(content[split])
            if digests[split] != manifest["splits"][split]["sha256"]:
                raise UserError(f"{folder}: content of {split} differs from {MANIFEST}; remove the folder to redo it")
        content = {split: examples[: limit or None] for split, examples in content.items()}
    splits = {split: _pack(name, split, examples, length) for split, examples in content.items()}
    record = {
        "name": name + (f"/{variant}" if variant else ""),
        "source": source,
        "sha256": hashlib.sha256("".join(digests[split] for split in SPLITS).encode()).hexdigest(),
        "examples": {split: len(splits[split].labels) for split in SPLITS},
    }
    return Dataset(splits, Spec(length, task.classes, task.vocabulary), record)


def prepare(name: str, variant: str, data_dir: str, source: str | None = None) -> Path:
    """Makes the prepared set of a task unless it is there; returns its folder.

    It is built in a folder of its own and then renamed, under a lock: interrupted or repeated at the same time, it
    leaves a whole set or none.
    """
    task = TASKS[name]
    variants = [config.name for config in task.builder.BUILDER_CONFIGS] or [""]
    if variant not in variants:
        raise UserError(f"{name} has no variant {variant!r}; it has {', '.join(variants) or 'none'}")
    if source is not None and not issubclass(task.builder, ArchiveBuilder):
        raise UserError(f"--source: {name} is generated and reads no archive")
    folder = _folder(task, variant, data_dir)
    if _exists(folder):
        if source is not None:
            say(f"{name}: {folder} is already prepared; --source is not used")
        _read_manifest(folder)
        return folder
    if source is not None and not Path(source).is_dir():
        raise UserError(f"--source: {source} is no folder")
    root = _writable(data_dir)
    with _locked(root / f".{name}.lock"):
        if folder.exists():  # another process made it while this one waited
            return folder
        for left in root.glob(f".preparing-{name}-*"):  # by a process that was killed: we hold the lock
            shutil.rmtree(left)
        say(f"{name}: preparing {folder}")
        building = Path(tempfile.mkdtemp(prefix=f".preparing-{name}-", dir=root))
        try:
            manifest = _build(task, variant, building, root / "downloads", source)
            built = _folder(task, variant, str(building))
            (built / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            folder.parent.mkdir(parents=True, exist_ok=True)
            built.rename(folder)
        except (OSError, RuntimeError) as error:  # the record writer raises the latter on a full disk
            raise UserError(f"{name}: writing {building} failed: {' '.join(str(error).split())}") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


def _build(task: Task, variant: str, root: Path, downloads: Path, source: str | None) -> dict[str, Any]:
    builder = task.builder(data_dir=root, config=variant or None, file_format="array_record")
    archive = isinstance(builder, ArchiveBuilder)
    if archive and source is not None:
        builder.source = Path(source)
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):  # TFDS's banners
        builder.download_and_prepare(download_dir=downloads)
    content = _read(task, variant, str(root))
    return {
        "source": f"{builder.URL} (sha256 {builder.archive_sha256})" if archive else _generated(builder),
        "builder": f"{builder.name} {builder.version}",
        "splits": {
            split: {
                "examples": len(examples),
                "classes": np.bincount([label for _, label in examples], minlength=task.classes).tolist(),
                "sha256": _digest(examples),
            }
            for split, examples in content.items()
        },
    }


def _generated(builder: Any) -> str:
    variant = builder.builder_config
    return f"generated by {builder.name}/{variant.name} {builder.version}, seed {variant.seed}, {variant.grammar}"


def _exists(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError as error:
        raise UserError(f"data_dir: {folder} can't be looked at: {error.strerror}") from error


def _folder(task: Task, variant: str, data_dir: str) -> Path:
    return Path(data_dir) / task.builder.name / variant / str(task.builder.VERSION)


def _read(task: Task, variant: str, data_dir: str) -> dict[str, list[tuple[bytes, int]]]:
    builder = task.builder(data_dir=data_dir, config=variant or None, file_format="array_record")
    content = {}
    for split in SPLITS:
        try:
            source = builder.as_data_source(split)
            chunks = [range(i, min(i + 2048, len(source))) for i in range(0, len(source), 2048)]
            examples = [example for chunk in chunks for example in source.__getitems__(chunk)]  # 6× single reads
            content[split] = [(bytes(example[task.feature]), int(example["label"])) for example in examples]
        except Exception as error:  # whatever the reader raises on a damaged file
            message = " ".join(str(error).split())
            raise UserError(
                f"{builder.data_dir}: {split} can't be read: {message}; remove the folder to redo it"
            ) from error
    return content


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        assert all("sha256" in manifest["splits"][split] for split in SPLITS) and manifest["source"]
    except (OSError, ValueError, LookupError, TypeError, AssertionError) as error:
        raise UserError(
            f"{folder} is no whole prepared set ({MANIFEST} is missing or damaged); remove it to redo it"
        ) from error
    return manifest


def _digest(examples: list[tuple[bytes, int]]) -> str:
    """SHA-256 of the content itself: record files of equal content differ from run to run."""
    digest = hashlib.sha256()
    for sequence, label in examples:
        digest.update(len(sequence).to_bytes(8, "little") + label.to_bytes(4, "little") + sequence)
    return digest.hexdigest()


def _pack(name: str, split: str, examples: list[tuple[bytes, int]], length: int) -> Split:
    inputs = np.zeros((len(examples), length), np.uint8)
    for i, (sequence, _) in enumerate(examples):
        if len(sequence) > length and not TASKS[name].truncate:
            raise UserError(f"{name}: {split} example {i} has length {len(sequence)}; config.data.length is {length}")
        row = np.frombuffer(sequence[:length], np.uint8)
        inputs[i, : len(row)] = row
    lengths = np.array([min(len(sequence), length) for sequence, _ in examples], np.int32)
    return Split(inputs, lengths, np.array([label for _, label in examples], np.int32))


def _writable(data_dir: str) -> Path:
    root = Path(data_dir)
    try:
        root.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except FileNotFoundError as error:
        raise UserError(f"data_dir {data_dir}: the folder {root.absolute().parent} doesn't exist") from error
    except OSError as error:
        raise UserError(f"data_dir {data_dir} can't be written: {error.strerror}") from error
    return root


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that prepares data ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
