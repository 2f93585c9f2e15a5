"""A sheet of what a model sees: examples with their labels, and how lengths and classes are distributed."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from gconv.data import tasks
from gconv.data.generators import listops
from gconv.data.generators.stand_in import Example
from gconv.errors import UserError

_COUNTED = 20_000  # examples of the training split that histograms count


def draw_sheet(name: str, variant: str, data_dir: str, path: Path) -> None:
    """Draws a prepared set to a PNG file: its first training examples, and histograms of the training split."""
    task, manifest = tasks.TASKS[name], tasks.manifest(name, variant, data_dir)
    stream = tasks.examples(name, variant, data_dir, "train")
    drawn = [example for _, example in zip(range(_COUNTED), stream, strict=False)]
    names = tasks.class_names(name, variant, data_dir)

    images = not task.vocabulary
    figure = Figure(figsize=(14, 13), layout="constrained")
    figure.suptitle(f"{name}{'/' if variant else ''}{variant}: {_sizes(manifest)}\n{_wrapped(manifest['source'], 150)}")
    upper, lower = np.asarray(figure.subfigures(2, 1, height_ratios=[3.4, 1]))
    if images:
        _draw_images(upper, drawn, names)
    else:
        _draw_texts(upper, drawn, names, listops.to_text if name == "listops" else _readable)
    left, right = lower.subplots(1, 2)
    if images:
        pixels = np.frombuffer(b"".join(sequences[0] for sequences, _ in drawn[:2000]), np.uint8)
        _histogram(left, pixels, "intensity of a pixel", "pixels", log=True)
    else:
        lengths = np.array([len(sequence) for sequences, _ in drawn for sequence in sequences])
        _histogram(left, lengths, "length of a sequence, uncut", "sequences")
    _draw_classes(right, manifest, names)
    try:
        figure.savefig(path, format=path.suffix[1:] or "png", dpi=90)
    except (OSError, ValueError) as error:  # the latter for a format that isn't known
        raise UserError(f"--sheet: {path} can't be written: {getattr(error, 'strerror', None) or error}") from error


def _sizes(manifest: dict) -> str:
    return ", ".join(f"{split} {manifest['splits'][split]['examples']:,}" for split in tasks.SPLITS)


def _wrapped(text: str, width: int, lines: int = 2) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …"))


def _readable(sequence: bytes) -> str:
    """Bytes as text, with what can't be shown as it would be written in Python."""
    text = sequence.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text).replace("$", r"\$")


def _draw_images(figure: FigureBase, drawn: list[Example], names: list[str]) -> None:
    size = int(len(drawn[0][0][0]) ** 0.5)
    columns = 8 if size <= 64 else 5
    grid = figure.subplots(columns * 5 // 8, columns).reshape(-1)
    for axes in grid:
        axes.set_axis_off()
    for axes, ((pixels,), label) in zip(grid, drawn, strict=False):
        axes.imshow(np.frombuffer(pixels, np.uint8).reshape(size, size), cmap="gray", vmin=0, vmax=255)
        axes.set_title(names[label], fontsize=10, pad=3)


def _draw_texts(figure: FigureBase, drawn: list[Example], names: list[str], to_text: Callable[[bytes], str]) -> None:
    documents = len(drawn[0][0])
    rows = 12 // documents
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(rows, 0))
    for row, (sequences, label) in enumerate(drawn[:rows]):
        axes.text(0, row, names[label], weight="bold", fontsize=10, va="top")
        for place, sequence in enumerate(sequences):
            shown = _wrapped(to_text(sequence[:1500]), 165, lines=4)
            below = row + place * 0.48
            axes.text(0.12, below, shown, fontsize=8, va="top", family="monospace")
            axes.text(0.11, below, f"{len(sequence):,}", fontsize=8, va="top", ha="right", color="0.4")


def _histogram(axes: Axes, values: np.ndarray, what: str, counted: str, log: bool = False) -> None:
    low, high = int(values.min()), int(values.max())
    width = (high - low) // 64 + 1  # whole numbers, so that no bin holds more of them than another
    axes.hist(values, bins=list(range(low, high + width + 1, width)), color="tab:blue")
    axes.set(xlabel=f"{what}: mean {values.mean():,.1f}, {low:,} to {high:,}", ylabel=counted)
    if log:
        axes.set_yscale("log")


def _draw_classes(axes: Axes, manifest: dict, names: list[str]) -> None:
    for place, split in enumerate(tasks.SPLITS):
        counts = np.array(manifest["splits"][split]["classes"])
        axes.bar(np.arange(len(counts)) + 0.27 * (place - 1), 100 * counts / counts.sum(), 0.25, label=split)
    axes.set_xticks(range(len(names)), names, rotation=30 if len("".join(names)) > 30 else 0)
    axes.set(ylabel="% of the split", xlabel="class")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])
    axes.legend(ncols=3, loc="upper left")
