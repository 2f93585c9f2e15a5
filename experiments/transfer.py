"""Longer sequences than were trained on: python -m experiments.run transfer

Each kernel is evaluated where training never asked for it (`gconv.load(run, length=…)`): lags keep their meaning, and
what lies beyond the trained ones is zero for a free kernel and follows from its formula for the others. Attention, with
and without rotation, stands beside them. The longer expressions are drawn from the same grammar.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

import gconv
from experiments.grid import Part, Table, rates, slug, with_norms
from experiments.table import shown_mean
from gconv.data.generators import listops
from gconv.progress import say
from gconv.training.metrics import read_json, write_json

LENGTHS = (1, 1.5, 2, 4)  # in units of that of training; expressions of a range have at most so many tokens
EXAMPLES = 2000


def expressions(shorter: int, longest: int, count: int) -> list[listops.Example]:
    """Different ones of more than `shorter` and at most `longest` tokens."""
    grammar = listops.Grammar(min_length=shorter, max_length=longest + 1)
    return list(itertools.islice(listops.generate(grammar, seed=1), count))


def accuracy(run: Path, examples: list[listops.Example], length: int) -> float:
    """Of a run's best model, reading sequences of `length`."""
    found = gconv.load(run, length=length).predict([example.tokens for example in examples])
    return float(np.mean(found.argmax(axis=1) == [example.value for example in examples]))


def measure(runs: list[Path], folder: Path) -> None:
    lengths = [int(units * read_json(runs[0] / "config.json")["data"]["length"]) for units in LENGTHS]
    longer = {n: expressions(shorter, n, EXAMPLES) for shorter, n in itertools.pairwise(lengths)}
    models = []
    for run in runs:
        accuracies = [read_json(run / "result.json")["test_accuracy"]]
        accuracies += [accuracy(run, examples, length) for length, examples in longer.items()]
        row = next(slug(row) for row in TABLE.rows if slug(row) in run.parts)
        models.append({"row": row, "accuracy": accuracies})
        say(f"{run}: {', '.join(f'{100 * a:.1f}%' for a in accuracies)}")
    commonest = [np.bincount([e.value for e in examples]).max() / EXAMPLES for examples in longer.values()]
    guessing = [read_json(runs[0] / "result.json")["chance"], *(float(share) for share in commonest)]
    record = {"lengths": lengths, "examples": EXAMPLES, "guessing": guessing, "models": models}
    write_json(folder / "transfer.json", record)
    (folder / "transfer.md").write_text(table(record))
    draw(record, folder / "transfer.png")


def by_row(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """(seeds, ranges) accuracies in percent of each row of the table that has any."""
    found = {}
    for row in TABLE.rows:
        seeds = [model["accuracy"] for model in record["models"] if model["row"] == slug(row)]
        if seeds:
            found[row] = 100 * np.array(seeds)
    return found


def ranges(record: dict[str, Any]) -> list[str]:
    first, *_ = lengths = record["lengths"]
    return [f"up to {first}", *(f"{a + 1} to {b}" for a, b in itertools.pairwise(lengths))]


def table(record: dict[str, Any]) -> str:
    found = by_row(record)
    lines = [
        "| kernel | " + " | ".join(f"{name} tokens (%)" for name in ranges(record)) + " |",
        "|---|" + "---:|" * len(record["lengths"]),
    ]
    for row in TABLE.rows:
        cells = ["not run", *[""] * (len(record["lengths"]) - 1)]
        if row in found:
            cells = [shown_mean(list(values), 1) for values in found[row].T]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    lines.append("| guessing | " + " | ".join(f"{100 * share:.1f}" for share in record["guessing"]) + " |")
    return "\n".join(lines) + "\n\n" + NOTE.format(**record)


NOTE = """Mean test accuracy ± half of the 95% interval over seeds. Trained on expressions of up to {lengths[0]} tokens;
the others are {examples:,} of each range. Guessing is the commonest answer of a range.
"""


def draw(record: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for row, values in by_row(record).items():
        axes.plot(ranges(record), values.mean(axis=0), marker="o", ls="--" if "attention" in row else "-", label=row)
    axes.plot(ranges(record), [100 * share for share in record["guessing"]], color="0.6", ls=":", label="guessing")
    axes.set(xlabel="tokens of an expression; the first range is that of training", ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


TABLE = Table(
    title="Kernels that are evaluated at greater lengths, gconv's block",
    rows={
        "free (LongConv)": Part("gconv"),
        "multi-scale (SGConv)": Part("gconv,multi_scale"),
        "multi-resolution (MRConv)": Part("gconv,multi_resolution"),
        "implicit (CKConv, Hyena)": Part("gconv,implicit"),
        "diagonal state space (S4D)": Part("gconv,diagonal"),
        "attention, rotary": Part("attention", {"model.positions": "none"}),
        "attention without positions": Part(
            "attention", {"model.positions": "none", "model.mixer_options.rotary": False}
        ),
    },
    columns={"ListOps": Part("listops")},
    sweep=with_norms(rates(3e-3, 1e-2)),
    measure=measure,
)
