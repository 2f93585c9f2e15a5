"""The tasks: what each data set is, where it is kept, and how it is prepared, checked and loaded.

A prepared set is a TFDS data set (ArrayRecord) with a manifest beside it, in DATA_DIR/NAME/[VARIANT/]VERSION. It
appears under that name only once it is whole, and is checked against its manifest whenever it is loaded.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from gconv.data import tokenizers
from gconv.data.builders.base import Builder
from gconv.data.builders.cifar10 import Cifar10
from gconv.data.builders.imdb import Imdb
from gconv.data.builders.listops import Listops
from gconv.data.builders.pathfinder import Path256, Pathfinder, Pathx
from gconv.data.builders.retrieval import Retrieval
from gconv.data.builders.same_film import SameFilm
from gconv.data.dataset import SPLITS, Dataset, Spec, Split
from gconv.data.generators import listops, stand_in
from gconv.data.generators.probes import PROBES, answers
from gconv.data.generators.stand_in import Example
from gconv.errors import UserError, one_line
from gconv.progress import say

MANIFEST = "manifest.json"

tfds.disable_progress_bar()  # its bars don't know how much there is to come; ours do


class Task(NamedTuple):
    """A classification task over sequences of bytes, or over pairs of them."""

    builder: type[Builder]
    features: tuple[str, ...]  # of the builder, that hold the sequences: one, or the two of a pair
    tokenizer: Callable[[Any], bytes]  # from a text, an expression or a picture file to such a sequence
    classes: int
    vocabulary: int  # number of token ids; 0 where a byte is an intensity
    truncate: bool  # whether a longer sequence is cut, or refused because its label would no longer hold
    stand_in: Callable[[int, int], list[Example]] | None = None
    peers_train_on_validation: bool = False  # whether LRA has no validation split, and ours is taken out of its train
    by_name_only: str = ""  # why `all` leaves it out


_PAIR = ("text1", "text2")

TASKS = {
    "listops": Task(Listops, ("tokens",), tokenizers.expression, 10, len(listops.VOCABULARY), truncate=False),
    "text": Task(Imdb, ("text",), tokenizers.text, 2, 256, True, stand_in.text, peers_train_on_validation=True),
    "retrieval": Task(Retrieval, _PAIR, tokenizers.text, 2, 256, True, stand_in.pairs),
    "image": Task(Cifar10, ("image",), tokenizers.picture, 10, 0, False, stand_in.image),
    "pathfinder": Task(Pathfinder, ("image",), tokenizers.picture, 2, 0, truncate=False),
    "pathx": Task(Pathx, ("image",), tokenizers.picture, 2, 0, truncate=False),
    "path256": Task(Path256, ("image",), tokenizers.picture, 2, 0, False, by_name_only="13 GB beyond LRA's six tasks"),
    "same_film": Task(SameFilm, _PAIR, tokenizers.text, 2, 256, True, stand_in.pairs),
}


def load(
    name: str,
    variant: str,
    length: int,
    limit: int,
    pool: int,
    allow_stand_in: bool,
    validation_is_test: bool,
    options: Mapping[str, Any],
    data_dir: str,
    mirror: bool = False,
) -> Dataset:
    """Loads a task's three splits into memory, preparing the set first if it is missing; generates those of a probe.

    They take examples × length bytes, which are read straight into place: 3.3 GB for Path-X, 13 GB for Path-256. What
    `limit` leaves out is read and checked too, but takes no memory.

    Args:
      name: a key of TASKS or of PROBES; variant: of a task's builder, or "" where there is one only.
      length: sequences are padded, and where the task allows it cut, to this many positions.
      limit: at most so many examples of each split, the first ones; 0 for all.
      pool: images are averaged over squares of pool × pool pixels; 1 for none.
      allow_stand_in: whether made-up data may stand in for a set that isn't prepared.
      validation_is_test: whether to validate on the test split, as LRA and its followers do on Text; there, what is
        otherwise held out for validation is trained on. The test score is then the best of many, and no fair one.
      options: of a probe, the keyword arguments of its generator, with the numbers of examples to `train` on and
        `held_out` for validation and again for testing.
      data_dir: folder of the prepared sets.
      mirror: whether each training image stands there a second time, left and right exchanged.
    """
    if name in PROBES:
        if pool != 1 or mirror or validation_is_test:
            raise UserError(f"config.data: pool, mirror and validation_is_test are for tasks; {name} is a probe")
        return _generate(name, length, limit, options)
    task = TASKS[name]
    _require_variant(name, variant)
    if options:
        raise UserError(f"config.data.options are for probes; {name} is a task")
    if pool != 1 and (pool < 1 or task.vocabulary):
        raise UserError(f"config.data.pool must be at least 1, and 1 for {name} unless it is of images; got {pool}")
    if mirror and task.vocabulary:
        raise UserError(f"config.data.mirror is for images; {name} has none")
    length *= pool**2  # as stored
    splits, digests = {}, {}
    if allow_stand_in and task.stand_in is not None and not _exists(_folder(task, variant, data_dir)):
        source = f"stand-in: generated, not {task.builder.name}"
        say(f"{name}: {data_dir} holds no prepared set; using a small {source}")
        for seed, split in enumerate(SPLITS):
            examples = task.stand_in(limit or 1000, seed)
            splits[split], digests[split] = _pack(name, split, examples, len(examples), length)
    else:
        prepare(name, variant, data_dir)
        builder = _builder(task, variant, data_dir)
        folder = _folder(task, variant, data_dir)
        recorded = _read_manifest(folder, builder)
        source = recorded["source"]
        for split in SPLITS:
            expected = recorded["splits"][split]
            count = min(expected["examples"], limit or expected["examples"])
            splits[split], digests[split] = _pack(name, split, _read(task, builder, split), count, length)
            if digests[split] != expected["sha256"]:
                raise UserError(f"{folder}: content of {split} differs from {MANIFEST}; remove the folder to redo it")
    if pool > 1:
        splits = {split: _pooled(arrays, pool) for split, arrays in splits.items()}
        length //= pool**2
    if validation_is_test:
        if task.peers_train_on_validation:
            both = zip(splits["train"], splits["validation"], strict=True)
            splits["train"] = Split(*(np.concatenate(arrays)[: limit or None] for arrays in both))
        splits["validation"] = splits["test"]
    if mirror:
        splits["train"] = _with_mirrored(splits["train"])
    record = {
        "name": name + (f"/{variant}" if variant else ""),
        "source": source,
        "sha256": hashlib.sha256("".join(digests[split] for split in SPLITS).encode()).hexdigest(),
        "examples": {split: len(splits[split].labels) for split in SPLITS},
        "validation_is_test": validation_is_test,
        "pool": pool,
        **({"mirror": True} if mirror else {}),
    }
    labels = splits["test"].labels
    return Dataset(splits, spec(name, length, options), record, chance=float(np.bincount(labels).max() / len(labels)))


def spec(name: str, length: int, options: Mapping[str, Any]) -> Spec:
    """Of a task, or of a probe with its options. UserError if one that it needs is missing."""
    if name in PROBES:
        ids = options.get("vocabulary", 3)  # bits and a question mark, where the probe has no choice
        try:
            most = answers(name, length, options)
        except KeyError as error:
            raise UserError(
                f"config.data.options of {name} must be those of configs/probes.py: {one_line(error)}"
            ) from error
        return Spec(length, ids, ids, answers=most, through_last=name == "compression")
    task = TASKS[name]
    return Spec(length, task.classes, task.vocabulary, len(task.features))


def _generate(name: str, length: int, limit: int, options: Mapping[str, Any]) -> Dataset:
    """The splits of a probe, the same whenever they are made. UserError for options that it doesn't take."""
    counts = {split: options["train" if split == "train" else "held_out"] for split in SPLITS}
    if min(counts.values()) < 1:
        raise UserError(f"config.data.options of {name}: train and held_out must be at least 1; got {counts}")
    rest = {field: value for field, value in options.items() if field not in ("train", "held_out")}
    splits, guess, digest = {}, 0.0, hashlib.sha256()
    for seed, (split, count) in enumerate(counts.items()):
        count = min(count, limit or count)
        try:
            made = PROBES[name](np.random.default_rng(seed), count, length, **rest)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise UserError(f"config.data.options of {name}: {error}") from error
        made_for = spec(name, length, options)  # after it, which says what doesn't fit
        assert (made.labels >= 0).sum(axis=1).max() <= made_for.answers, f"probes.answers says too few of {name}"
        inputs = made.inputs.astype(made_for.dtype)
        splits[split], guess = Split(inputs, np.full(count, length, np.int32), made.labels), made.guess
        digest.update(made.inputs.tobytes() + made.labels.tobytes())
    record = {
        "name": name,
        "source": f"generated: {name} of length {length}, " + ", ".join(f"{k} {v}" for k, v in options.items()),
        "sha256": digest.hexdigest(),
        "examples": {split: len(arrays.labels) for split, arrays in splits.items()},
    }
    return Dataset(splits, made_for, record, chance=guess)


def tokenizer(name: str, length: int) -> Callable[[Any], bytes]:
    """What turns a text, a ListOps expression or the path of a picture into a sequence for a model of that length.

    Longer texts are cut, as they are for training. UserError for whatever else doesn't fit, or can't be read.
    """
    task = TASKS[name]

    def tokenize(content: Any) -> bytes:
        tokens = task.tokenizer(content)
        if not tokens:
            raise UserError("it is empty")
        if not task.vocabulary and len(tokens) != length:
            has, wanted = math.isqrt(len(tokens)), math.isqrt(length)
            raise UserError(f"it is {has} × {has} pixels; the model reads {wanted} × {wanted}")
        if len(tokens) > length and not task.truncate:
            raise UserError(f"it has {len(tokens):,} tokens; the model reads {length:,} at most")
        return tokens[:length]

    return tokenize


def _pooled(split: Split, pool: int) -> Split:
    """The images of a split at 1/pool of their side, means rounded to whole intensities."""
    count, length = split.inputs.shape
    side = math.isqrt(length)
    squares = split.inputs.reshape(count, side // pool, pool, side // pool, pool)
    inputs = np.rint(squares.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8).reshape(count, -1)
    return Split(inputs, np.full(count, inputs.shape[1], np.int32), split.labels)


def _with_mirrored(split: Split) -> Split:
    """The images of a split, and after them their mirror images."""
    side = math.isqrt(split.inputs.shape[1])
    mirrored = split.inputs.reshape(-1, side, side)[:, :, ::-1].reshape(split.inputs.shape)
    return Split(*map(np.concatenate, zip(split, split._replace(inputs=mirrored), strict=True)))


def default_variant(name: str) -> str:
    """The variant of a task that is meant where none is named: its published setting. "" where there is one only."""
    configs = TASKS[name].builder.BUILDER_CONFIGS
    return configs[0].name if configs else ""


def prepare(name: str, variant: str, data_dir: str, source: str | None = None) -> Path:
    """Makes the prepared set of a task unless it is there; returns its folder.

    It is built in a folder of its own and then renamed, under a lock: interrupted or repeated at the same time, it
    leaves a whole set or none. What a long generation had finished is kept beside it, and not made again.
    """
    task = TASKS[name]
    _require_variant(name, variant)
    folder = _folder(task, variant, data_dir)
    if _exists(folder):
        made_from = manifest(name, variant, data_dir)["source"]
        if source is not None and made_from.startswith("generated"):
            raise UserError(f"{name}: {folder} is already prepared, but generated; remove it to read --source instead")
        if source is not None:
            say(f"{name}: {folder} is already prepared; --source is not used")
        return folder
    if source is not None and not Path(source).is_dir():
        raise UserError(f"--source: {source} is no folder")
    if source is None and task.builder.NEEDS:
        raise UserError(
            f"{name} needs {task.builder.NEEDS}: prepare it with python -m gconv.prepare {name} --source=DIR"
        )
    root = _writable(data_dir)
    with _locked(root / f".{name}.lock"):
        if folder.exists():  # another process made it while this one waited
            return folder
        for left in root.glob(f".preparing-{name}-*"):  # by a process that was killed: we hold the lock
            shutil.rmtree(left)
        say(f"{name}: preparing {folder}")
        building = Path(tempfile.mkdtemp(prefix=f".preparing-{name}-", dir=root))
        try:
            builder = _builder(task, variant, str(building))
            key = hashlib.sha256(builder.recipe.encode()).hexdigest()[:16]
            builder.parts = root / f".unfinished-{name}-{variant}-{key}"
            builder.source = None if source is None else Path(source)
            record = _build(task, builder, root / "downloads")
            built = _folder(task, variant, str(building))
            (built / MANIFEST).write_text(json.dumps(record, indent=2) + "\n")
            folder.parent.mkdir(parents=True, exist_ok=True)
            built.rename(folder)
            for left in root.glob(f".unfinished-{name}-{variant}-*"):  # other keys are of other versions
                shutil.rmtree(left)
        except BrokenExecutor as error:
            raise UserError(f"{name}: a process that generated examples died; was it out of memory?") from error
        except (OSError, RuntimeError) as error:  # the record writer raises the latter on a full disk
            raise UserError(f"{name}: writing {building} failed: {one_line(error)}") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder


def is_prepared(name: str, data_dir: str) -> bool:
    return _exists(_folder(TASKS[name], default_variant(name), data_dir))


def manifest(name: str, variant: str, data_dir: str) -> dict[str, Any]:
    """What is recorded of a prepared set: its source, builder and seed, and per split examples, classes, sha256."""
    task = TASKS[name]
    return _read_manifest(_folder(task, variant, data_dir), _builder(task, variant, data_dir))


def can_be_read(name: str, source: str) -> bool:
    """Whether a folder holds what a task is read from: its archive, or its part of LRA's release."""
    return TASKS[name].builder.find(Path(source)) is not None


def class_names(name: str, variant: str, data_dir: str) -> list[str]:
    return list(_builder(TASKS[name], variant, data_dir).info.features["label"].names)


def examples(name: str, variant: str, data_dir: str, split: str) -> Iterator[Example]:
    """Yields the examples of a prepared split whole and in order, as they are stored."""
    task = TASKS[name]
    yield from _read(task, _builder(task, variant, data_dir), split)


def _require_variant(name: str, variant: str) -> None:
    variants = [config.name for config in TASKS[name].builder.BUILDER_CONFIGS] or [""]
    if variant not in variants:
        raise UserError(f"{name} has no variant {variant!r}; it has {', '.join(variants) or 'none'}")


def _builder(task: Task, variant: str, data_dir: str) -> Builder:
    return task.builder(data_dir=data_dir, config=variant or None, file_format="array_record")


def _build(task: Task, builder: Builder, downloads: Path) -> dict[str, Any]:
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):  # TFDS's banners
        builder.download_and_prepare(download_dir=downloads)
    splits = {}
    for split in SPLITS:
        digest, classes = hashlib.sha256(), [0] * task.classes
        for example in _read(task, builder, split):
            digest.update(_encoded(example))
            classes[example[1]] += 1
        splits[split] = {"examples": sum(classes), "classes": classes, "sha256": digest.hexdigest()}
    return {
        "source": builder.origin,
        "builder": f"{builder.name} {builder.version}",
        "seed": builder.seed,
        "splits": splits,
    }


def _exists(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError as error:
        raise UserError(f"data_dir: {folder} can't be looked at: {error.strerror}") from error


def _folder(task: Task, variant: str, data_dir: str) -> Path:
    return Path(data_dir) / task.builder.name / variant / str(task.builder.VERSION)


def _read(task: Task, builder: Builder, split: str) -> Iterator[Example]:
    try:
        source = builder.as_data_source(split)
        for start in range(0, len(source), 1024):  # 6× as fast as single reads
            for example in source.__getitems__(range(start, min(start + 1024, len(source)))):
                yield tuple(bytes(example[feature]) for feature in task.features), int(example["label"])
    except Exception as error:  # whatever the reader raises on a damaged file
        raise UserError(
            f"{builder.data_dir}: {split} can't be read: {one_line(error)}; remove the folder to redo it"
        ) from error


def _read_manifest(folder: Path, builder: Builder) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        assert all(manifest["splits"][split]["sha256"] for split in SPLITS)
        assert all(manifest["splits"][split]["examples"] > 0 for split in SPLITS)
        generated = manifest["source"].startswith("generated")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"{folder} is no whole prepared set ({MANIFEST} is missing or damaged); remove it to redo it"
        ) from error
    if generated and manifest["source"] != builder.recipe:
        raise UserError(
            f"{folder} was {manifest['source']}; this version of gconv makes what is {builder.recipe}:"
            " remove the folder to redo it"
        )
    return manifest


def _encoded(example: Example) -> bytes:
    """What is hashed of an example: the content itself, as record files of equal content differ from run to run."""
    sequences, label = example
    lengths = b"".join(len(sequence).to_bytes(8, "little") for sequence in sequences)
    return lengths + label.to_bytes(4, "little") + b"".join(sequences)


def _pack(name: str, split: str, examples: Iterable[Example], count: int, length: int) -> tuple[Split, str]:
    """The first `count` examples as arrays, and the SHA-256 of all of them."""
    task, digest = TASKS[name], hashlib.sha256()
    inputs = np.zeros((count, len(task.features), length), np.uint8)
    lengths, labels = np.zeros(inputs.shape[:2], np.int32), np.zeros(count, np.int32)
    for i, example in enumerate(examples):
        digest.update(_encoded(example))
        if i >= count:
            continue
        for j, sequence in enumerate(example[0]):
            pixels = not task.vocabulary
            if (len(sequence) != length) if pixels else (len(sequence) > length and not task.truncate):
                allowed = "config.data.length × config.data.pool²" if pixels else "config.data.length"
                raise UserError(f"{name}: {split} example {i} has length {len(sequence)}; {allowed} is {length}")
            lengths[i, j] = min(len(sequence), length)
            inputs[i, j, : lengths[i, j]] = np.frombuffer(sequence, np.uint8, lengths[i, j])
        labels[i] = example[1]
    if len(task.features) == 1:
        inputs, lengths = inputs[:, 0], lengths[:, 0]
    return Split(inputs, lengths, labels), digest.hexdigest()


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
    try:
        opened = path.open("w")
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that prepares data ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"{path} can't be locked: {error.strerror}") from error
        yield
