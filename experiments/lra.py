"""Long Range Arena at full scale: gconv, attention at its published size and at gconv's parameters, and the original.

Modern attention has gconv's steps and batches, and once those of a published recipe, `configs.base.miralles`, with a
second loss on texts.

Matrix products are in bf16, and FFTs in float32 but where the GPU's fused kernel takes them, up to 8,192 tokens.

    python -m experiments.run lra --preset= --jobs=1 --workdir=runs    # as often as it is interrupted
    python -m experiments.table lra --preset= --workdir=runs --output=experiments/records/lra
    python -m experiments.lra                                          # the README's table

The last writes experiments/records/lra/main.md, those results where there are records of them, with minutes and device,
beside the published figures, and what the runs take by measured steps; and projected.md, what they should take by the
cost model (`hours`). A cell without a record says "not run".
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx

from configs import image, listops, pathfinder, pathx, retrieval, text
from experiments import grid, table
from experiments.grid import Part, Table
from gconv import cli
from gconv.errors import UserError
from gconv.models.mixers import Attention, PointwiseGlobalConv
from gconv.ops import cost
from gconv.training.metrics import read_json
from gconv.training.step import build_model, spec_of

CONFIGS = {
    "ListOps": listops,
    "Text": text,
    "Retrieval": retrieval,
    "Image": image,
    "Pathfinder": pathfinder,
    "Path-X": pathx,
}
BF16 = {"model.dtype": "bfloat16"}

TABLE = Table(
    title="Long Range Arena, the full setting",
    rows={
        "gconv": Part("gconv"),
        "attention, gconv's parameters": Part("attention,match=parameters"),
        "attention, modern": Part("attention"),
        "attention, a published recipe": Part("attention,miralles"),
        "attention, original": Part("transformer"),
    },
    columns={task: Part(module.__name__.rpartition(".")[2], BF16) for task, module in CONFIGS.items()},
)

# Test accuracy (%) in the order of CONFIGS, None where the source has none or "fail"; or the average alone.
PUBLISHED: dict[str, tuple[tuple[float | None, ...] | float, str]] = {
    "Transformer": ((36.37, 64.27, 57.46, 42.44, 71.40, None), "Tay et al. 2021"),
    "Transformer, re-run": ((37.11, 65.21, 79.14, 42.94, 71.83, None), "Ma et al. 2022 (Mega)"),
    "S5": ((62.15, 89.31, 91.40, 88.00, 95.33, 98.58), "Smith et al. 2023"),
    "SGConv, a global convolution": ((61.45, 89.20, 91.11, 87.97, 95.46, 97.83), "Li et al. 2022"),
    "MRConv, the best pure convolution found": (88.2, "Cunningham et al. 2024, the average alone"),
    "Transformer, rotary, a better recipe": (85.69, "Miralles-González et al. 2025, the average without Path-X"),
    "Mega, moving average and attention": ((63.14, 90.43, 91.25, 90.44, 96.01, 97.98), "Ma et al. 2022"),
    "Megalodon, the best average found": ((63.79, 90.48, 91.76, 89.42, 98.13, 98.17), "Ma et al. 2024"),
}


class Device(NamedTuple):
    """What a chip is said to do at best, by its maker, and of how many chips the machine is made."""

    bf16: float  # FLOP/s of matrix products
    fft: float  # FLOP/s of an FFT's arithmetic: float32 outside of the matrix units
    bandwidth: float  # bytes/s of memory
    chips: int


H100 = Device(989e12, 67e12, 3.35e12, 1)  # on which steps were measured
DEVICES = {
    "one H200": Device(989e12, 67e12, 4.8e12, 1),
    # No float32 rate of the vector unit is published for TPUs: a thirty-second of the matrix unit's is assumed.
    "TPU v5e-8": Device(197e12, 197e12 / 32, 819e9, 8),
    "TPU v4-32": Device(275e12, 275e12 / 32, 1228e9, 16),
}
REACHED = 0.4  # of those rates, assumed

# Examples of the validation and the test split. Retrieval's are a guess: where its release is described it has none.
HELD_OUT = {
    "listops": (2_000, 2_000),
    "text": (2_500, 25_000),
    "retrieval": (18_000, 18_000),
    "image": (5_000, 10_000),
    "pathfinder": (20_000, 20_000),
    "pathx": (20_000, 20_000),
}


class Cost(NamedTuple):
    """Of a whole run, by formula: a step is three forward passes of its batch, an evaluation one of its split."""

    products: float  # FLOPs of dense layers and attention
    ffts: float  # FLOPs
    moved: float  # bytes


def training(config: Any, evaluation: bool = True) -> Cost:
    """Of a config with gconv's or attention's blocks, with or without validation and test; ValueError for others.

    Bytes: each dense layer and attention read and write what they must once, in bf16; a convolution by FFT passes its
    float32 activations eight times (pad and transform, product, back, real and complex); norm, activation and residual
    pass four times.
    """
    model = nnx.eval_shape(lambda: build_model(config.model, spec_of(config), jax.random.key(0)))
    length, width = config.data.length, config.model.features
    total, ffts, moved = model.flops(length).fft, 0.0, 0.0
    documents = 2 if model.pairs else 1
    for block in model.blocks:
        moved += 4 * 2 * length * width
        if type(block.mixer) is PointwiseGlobalConv:
            ffts += documents * block.mixer.conv.flops(length).fft
            moved += 8 * 4 * length * width + cost.dense_bytes(length, width, 2 * width, itemsize=2)
        elif type(block.mixer) is Attention:
            moved += cost.attention_bytes(1, length, width, itemsize=2)
            moved += cost.dense_bytes(length, width, 4 * width, itemsize=2)
        else:
            raise ValueError(f"nothing is known of what a {type(block.mixer).__name__} moves")
        if block.has_mlp:
            moved += 2 * cost.dense_bytes(length, width, block.mlp.hidden, itemsize=2)
    generated = config.data.options.get("held_out")  # as many for either split
    validation, test = (generated, generated) if generated else HELD_OUT[config.data.name]
    evaluated = validation * math.ceil(config.steps / config.eval_every) + test
    trained = 3.0 * config.batch_size * config.steps
    forwards = trained + evaluated * evaluation
    told = cost.dense(documents * length, width, model.vocabulary).fft if config.model.denoise else 0.0
    return Cost(forwards * (total - ffts) + trained * told, forwards * ffts, forwards * documents * moved)


def hours(of: Cost, device: Device) -> float:
    """What a training should take on a machine: REACHED of a chip's rates, the chips sharing the batch.

    The greater of the times of its arithmetic and of its memory traffic (the roofline of Williams et al. 2009). Hosts
    and exchanges between chips are left out, so this is a guess from below.
    """
    arithmetic = of.products / device.bf16 + of.ffts / device.fft
    return max(arithmetic, of.moved / device.bandwidth) / (REACHED * device.chips) / 3600


def minutes(measured: Mapping[str, Any]) -> float:
    """Of all steps of a run, by the seconds of one."""
    return measured["steps"] * measured["seconds"] / 60


def measurements() -> list[str]:
    """Minutes of the training steps of one seed, from the record of `python -m scripts.benchmark full`."""
    record = read_json(grid.RECORDS / "benchmark" / "h100" / "full.json")
    lines = [f"| one seed, {record['device']} | " + " | ".join(CONFIGS) + " |", "|---|" + "---:|" * len(CONFIGS)]
    found = {(row["model"], row["task"]): row for row in record["rows"] if "seconds" in row}
    for row in TABLE.rows:
        texts = [f"{minutes(found[row, task]):.0f} min" if (row, task) in found else "not run" for task in CONFIGS]
        lines.append(f"| {row} | " + " | ".join(texts) + " |")
    return [*lines, *(["", record["note"]] if "note" in record else []), "", *_beside_projection(found)]


def _beside_projection(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    """How the measured times stand to what `hours` gives for the same steps and card, which judges the projections.

    And the projections for an H200 multiplied by that ratio.
    """
    ratios: dict[str, list[str]] = {}
    estimates: dict[str, list[str]] = {}
    for (row, task), measured in found.items():
        config = CONFIGS[task].get_config(TABLE.rows[row].names)
        ratio = minutes(measured) / 60 / hours(training(config, evaluation=False), H100)
        ratios.setdefault(row, []).append(f"{ratio:.1f} on {task}")
        whole = 60 * ratio * hours(training(config), DEVICES["one H200"])
        estimates.setdefault(row, []).append(f"{whole:.0f} min on {task}")
    shown, estimated = (
        "; ".join(f"{row} {', '.join(of_tasks)}" for row, of_tasks in found_of.items())
        for found_of in (ratios, estimates)
    )
    return [
        f"Measured ÷ projected, by the formulas of the projections for an H100 and these steps alone: {shown}.",
        "",
        f"**Estimated** for one H200, validation and test included, its projection times that ratio: {estimated}.",
    ]


def results(records: list[dict[str, Any]]) -> list[str]:
    """Ours, with the median minutes of a run, and the published, row by row; an average where all six are there."""
    cells = table.cells(records)
    lines = [
        "| model | " + " | ".join(CONFIGS) + " | average | source |",
        "|---|" + "---:|" * (len(CONFIGS) + 1) + "---|",
    ]
    for row in TABLE.rows:
        done = {task: cells[row, task] for task in CONFIGS if (row, task) in cells and cells[row, task].results}
        shown = [_with_minutes(done[task]) if task in done else "not run" for task in CONFIGS]
        average = _average([100 * done[task].mean if task in done else None for task in CONFIGS])
        devices = dict.fromkeys(result["device"] for cell in done.values() for result in cell.results)
        source = ", ".join(["this repository", *devices])
        lines.append(f"| **{row}** | " + " | ".join([*shown, average, source]) + " |")
    for name, (scores, source) in PUBLISHED.items():
        if isinstance(scores, float):
            shown = ["–"] * len(CONFIGS) + [f"{scores:g}"]
        else:
            shown = ["–" if score is None else f"{score:.2f}" for score in scores] + [_average(scores)]
        lines.append(f"| {name} | " + " | ".join([*shown, source]) + " |")
    return lines


def _average(scores: Sequence[float | None]) -> str:
    """Of all tasks; a half is rounded up, as in the papers."""
    known = [score for score in scores if score is not None]
    return f"{statistics.mean(known) + 1e-9:.2f}" if len(known) == len(scores) else "–"


def _with_minutes(cell: table.Cell) -> str:
    return f"{table.shown(cell)}, {statistics.median(r['train_seconds'] for r in cell.results) / 60:.0f} min"


def projections() -> list[str]:
    """Hours and chip-hours of one seed, by task and machine."""
    lines = ["| one seed | " + " | ".join(CONFIGS) + " | all, chip-hours |", "|---|" + "---:|" * (len(CONFIGS) + 1)]
    costs = {row: [training(m.get_config(part.names)) for m in CONFIGS.values()] for row, part in TABLE.rows.items()}
    for name, device in DEVICES.items():
        for row, of_tasks in costs.items():
            taken = [hours(of_task, device) for of_task in of_tasks]
            texts = [f"{60 * h:.0f} min" if h < 2 else f"{h:.1f} h" for h in taken]
            lines.append(f"| {row}, {name} | " + " | ".join(texts) + f" | {device.chips * sum(taken):.0f} |")
    return lines


def written() -> dict[str, str]:
    """The files of the record: what was measured, and what is projected."""
    measured = [
        "Test accuracy (%), the full setting:",
        "",
        *results(grid.read_records("lra", "")),
        "",
        "Time of all training steps of a run, by **measured** steps, without validation and test"
        " (`python -m scripts.benchmark full`):",
        "",
        *measurements(),
        "",
    ]
    projected = [
        f"Time of a run **projected, not measured**, with validation and test, at {REACHED:.0%} of the makers' peak"
        " rates; FFTs at the rate of float32, in which the fused kernel doesn't compute; a TPU's rate for them isn't"
        " published and is taken as a thirty-second of that for matrices; attention as a"
        " fused kernel, which on a TPU it isn't here yet (`experiments/lra.py` has the formulas):",
        "",
        *projections(),
        "",
    ]
    return {"main.md": "\n".join(measured), "projected.md": "\n".join(projected)}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}")
    folder = grid.RECORDS / "lra"
    folder.mkdir(exist_ok=True)
    for name, content in written().items():
        (folder / name).write_text(content)
        print(content)


if __name__ == "__main__":
    cli.run(main)
