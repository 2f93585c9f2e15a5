"""A table of the records of its runs: python -m experiments.table NAME [--preset=small] [--workdir=DIR] [--output=DIR]

With --workdir the records are read from the runs there, and written beside them (WORKDIR/NAME/PRESET.jsonl) with the
table as Markdown, LaTeX and CSV and a plot; otherwise they are those of experiments/records. --output is another folder
for all that: what it holds already of cells that weren't run there stays, so that the columns of a table can be made on
several machines. A cell is the mean test accuracy over seeds with its 95% interval (Student's t). Bold is
the best of a column, if every row of it was run and it is better than each by a t-test paired by seed, p < 0.05, and
the table's control, where it has one, has left the level of guessing; otherwise nothing is. What wasn't run, or failed,
says so, a column of which nothing was run below the table.
"""

import csv
import io
import itertools
import json
import math
import re
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats takes a second to import

from experiments import grid
from gconv import cli
from gconv.errors import UserError
from gconv.progress import say

Records = list[dict[str, Any]]


class Cell(NamedTuple):
    chosen: str  # the point of the sweep, by its values
    accuracies: dict[int, float]  # by seed
    results: Records  # of the finished runs
    failed: int
    wanted: int

    @property
    def mean(self) -> float:
        return statistics.mean(self.accuracies.values())

    @property
    def half(self) -> float:
        return half_interval(list(self.accuracies.values()))

    @property
    def has_wide_interval(self) -> bool:
        """Whether it leaves 0 to 1 by more than a point: then seeds differ in kind, and their range says more."""
        return not (math.isnan(self.half) or -0.01 <= self.mean - self.half <= self.mean + self.half <= 1.01)


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95% interval of the mean, by Student's t; nan for a single value."""
    if len(values) < 2:
        return math.nan
    return float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))


def shown_mean(values: Sequence[float], digits: int) -> str:
    """Their mean, with half of its 95% interval where there are several."""
    half = half_interval(values)
    return f"{statistics.mean(values):.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def cells(records: Records) -> dict[tuple[str, str], Cell]:
    """By (row, column), over the selected runs; where none is, because one failed, the failure counts."""
    found: dict[tuple[str, str], Cell] = {}
    for key in dict.fromkeys((r["row"], r["column"]) for r in records):
        mine = [r for r in records if (r["row"], r["column"]) == key]
        chosen = [r for r in mine if r["selected"]] or [r for r in mine if r["state"] == "failed"][:1]
        finished = [r for r in chosen if r["state"] == "finished"]
        found[key] = Cell(
            _values(finished[0]["swept"]) if finished else "",
            {r["seed"]: r["result"]["test_accuracy"] for r in finished},
            [r["result"] for r in finished],
            sum(r["state"] == "failed" for r in chosen),
            len({r["seed"] for r in records}),
        )
    return found


def _values(point: dict[str, Any]) -> str:
    """Of a point of a sweep, each once."""
    return ", ".join(dict.fromkeys(_number(value) for value in point.values()))


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def winner(column: dict[str, Cell], control: Sequence[str] = ()) -> str | None:
    """The row whose mean is best, if a t-test paired by seed sets it apart from every other (p < 0.05).

    None while a row lacks results: it might be better; and where the rows of the control, if any, all guess.
    """
    if len(column) < 2 or not all(cell.accuracies for cell in column.values()):
        return None
    if control and not any(column[row].mean > column[row].results[0]["chance"] + LEFT_GUESSING for row in control):
        return None
    best = max(column, key=lambda row: column[row].mean)
    for row, cell in column.items():
        seeds = sorted(cell.accuracies.keys() & column[best].accuracies.keys())
        if row == best:
            continue
        if len(seeds) < 2 or not differ([column[best].accuracies[seed] - cell.accuracies[seed] for seed in seeds]):
            return None
    return best


LEFT_GUESSING = 0.1  # above guessing: then something is learnt


def differ(differences: list[float]) -> bool:
    """Whether their mean isn't 0, by a t-test (p < 0.05)."""
    mean, spread, n = statistics.mean(differences), statistics.stdev(differences), len(differences)
    if spread == 0:
        return mean != 0
    return bool(2 * stdtr(n - 1, -abs(mean) / spread * math.sqrt(n)) < 0.05)


def grid_of(
    records: Records, control: Sequence[str] = ()
) -> tuple[list[str], list[str], dict[tuple[str, str], Cell], dict[str, str | None]]:
    """Rows, columns, cells, and each column's winner."""
    rows = list(dict.fromkeys(r["row"] for r in records))
    columns = list(dict.fromkeys(r["column"] for r in records))
    found = cells(records)
    return rows, columns, found, {c: winner({row: found[row, c] for row in rows}, control) for c in columns}


def shown(cell: Cell) -> str:
    """The accuracy in %, with its interval; and how many seeds lack."""
    lacking = cell.wanted - len(cell.accuracies)
    missing = [(cell.failed, "failed"), (lacking - cell.failed, "not run")]
    if not cell.accuracies:
        return ", ".join(what for count, what in missing if count)
    text = f"{100 * cell.mean:.1f}"
    if cell.has_wide_interval:
        text += f" ({100 * min(cell.accuracies.values()):.1f} to {100 * max(cell.accuracies.values()):.1f})"
    elif not math.isnan(cell.half):
        text += f" ± {100 * cell.half:.1f}"
    counts = ", ".join(f"{count} {what}" for count, what in missing if count)
    return text + (f" ({counts} of {cell.wanted} seeds)" if counts else "")


COSTS = {
    "parameters": "parameters",
    "FLOPs/token": "flops_per_token",
    "with direct convolution": "flops_per_token_direct",
    "examples/s": "examples_per_second",
}


def lines_of(records: Records, table: grid.Table) -> tuple[list[str], list[list[str]]]:
    """Heads, and rows as text: accuracies, the significantly best as `**…**`, the sweep's chosen point, and costs.

    Only of columns of which something was run.
    """
    rows, _, found, best = grid_of(records, table.control)
    columns, _ = _run_columns(records)
    choice = ["chosen"] if len(_points(records)) > 1 else []
    lines = []
    for row in rows:
        texts = [f"**{shown(found[row, c])}**" if best[c] == row else shown(found[row, c]) for c in columns]
        texts += [" / ".join(found[row, c].chosen or "–" for c in columns) for _ in choice]
        lines.append([row, *texts, *_costs([found[row, c] for c in columns])])
    chances = []
    for c in columns:
        results = [result for row in rows for result in found[row, c].results]
        chances.append(f"{100 * results[0]['chance']:.1f}" if results else "–")
    lines.append(["guessing", *chances, *([""] * len([*choice, *COSTS]))])
    return ["", *(f"{c} (%)" for c in columns), *choice, *COSTS], lines


def _run_columns(records: Records) -> tuple[list[str], list[str]]:
    """Those of which some run was made, and the others."""
    run = [r["column"] for r in records if r["state"] != "not run"]
    columns = dict.fromkeys(r["column"] for r in records)
    return [c for c in columns if c in run], [c for c in columns if c not in run]


def _points(records: Records) -> Records:
    """Of the sweep."""
    return list({json.dumps(r["swept"]): r["swept"] for r in records}.values())


def _costs(of_row: list[Cell]) -> list[str]:
    """Parameters, both FLOPs a token and examples/s of a row: a figure a column, or of many columns their range."""
    figures = []
    for name in COSTS.values():
        values = [statistics.median(r[name] for r in cell.results) if cell.results else None for cell in of_row]
        known = [value for value in values if value is not None]
        texts = list(dict.fromkeys(f"{value:,.0f}" for value in known))
        if len(texts) > 3:
            figures.append(f"{min(known):,.0f} to {max(known):,.0f}")
        else:
            each = " / ".join("–" if value is None else f"{value:,.0f}" for value in values)
            figures.append(each if len(texts) > 1 else "".join(texts))
    return figures


def markdown(records: Records, table: grid.Table) -> str:
    heads, lines = lines_of(records, table)
    made = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    made += [f"| {' | '.join(line)} |" for line in lines]
    return f"{table.title}\n\n" + "\n".join(made) + "\n\n" + facts(records, table) + "\n"


def facts(records: Records, table: grid.Table) -> str:
    """What a reader must know of the runs: data, seeds, sweep, device, hours."""
    results = [r["result"] for r in records if r["state"] == "finished"]
    wide = any(cell.has_wide_interval for cell in cells(records).values())
    range_of = ", or, where that is more than there is, their lowest and highest" if wide else ""
    lines = [
        f"Mean test accuracy ± half of the 95% interval over {len({r['seed'] for r in records})} seeds{range_of}; costs"
        " are given column by column where they differ, or as a range."
    ]
    if len(points := _points(records)) > 1:
        fields = ", ".join(field.rpartition(".")[2] for field in points[0])
        tried = "; ".join(map(_values, points))
        lines.append(
            f"Chosen for each cell on validation, with the first seed, out of ({fields}, equal ones once): {tried}."
        )
    if results:
        lines.append(f"Data: {_sources(results)}.")
        minutes = sum(r["train_seconds"] for r in results) / 60
        taken = f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes:.0f} minutes"
        devices = ", ".join(dict.fromkeys(r["device"] for r in results))
        lines.append(f"{len(results)} runs, {taken} of training on {devices}.")
        lines.append(
            "Runs may have shared their machine, so examples/s are no benchmark; `python -m scripts.benchmark step` is."
        )
    if unrun := _run_columns(records)[1]:
        lines.append(f"Not run: {', '.join(unrun)}.")
    if table.note:
        lines.append(table.note)
    return "\n".join(lines)


def _sources(results: Records) -> str:
    """Where the data of the runs come from, and which archives they were, by the first digits of their checksums."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        source, _, checksum = result["data"]["source"].partition(" (sha256 ")
        found.setdefault(f"{result['data']['name']}: {source}", {})[checksum[:8]] = None
    return "; ".join(
        source + (f" (sha256 {', '.join(checksums)})" if any(checksums) else "") for source, checksums in found.items()
    )


def latex(records: Records, table: grid.Table) -> str:
    """The body of a booktabs table."""
    heads, lines = lines_of(records, table)
    made = [" & ".join(line) + r" \\" for line in (heads, *lines)]
    made = [r"\toprule", made[0], r"\midrule", *made[1:], r"\bottomrule"]
    text = re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", "\n".join(made)).replace("±", r"$\pm$").replace("–", "--")
    text = text.replace("%", r"\%").replace("_", r"\_")
    unrun = "".join(f"% Not run: {column}\n" for column in _run_columns(records)[1])
    return unrun + rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}" + f"\n{text}\n" + r"\end{tabular}" + "\n"


def as_csv(records: Records, table: grid.Table) -> str:
    """One line a cell. Accuracies are shares, and the interval is mean ± half."""
    rows, columns, found, best = grid_of(records, table.control)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = ["row", "column", "chosen", "mean", "half", "best", "finished", "failed", "seeds", "chance"]
    writer.writerow([*heads, *COSTS.values()])
    for row, c in itertools.product(rows, columns):
        cell = found[row, c]
        score = [f"{cell.mean:.5f}", f"{cell.half:.5f}"] if cell.accuracies else ["", ""]
        counts = [len(cell.accuracies), cell.failed, cell.wanted]
        figures = [
            statistics.median(r[n] for r in cell.results) if cell.results else "" for n in ("chance", *COSTS.values())
        ]
        writer.writerow([row, c, cell.chosen, *score, best[c] == row, *counts, *figures])
    return out.getvalue()


def draw(records: Records, table: grid.Table, path: Path) -> None:
    """A panel a column, at most five side by side: each row's mean, interval and seeds, and the level of guessing."""
    from matplotlib.figure import Figure

    rows, columns, found, _ = grid_of(records)
    columns = [c for c in columns if any(found[row, c].accuracies for row in rows)]
    across = min(5, len(columns))
    down = math.ceil(len(columns) / across)
    size = (0.4 + 0.075 * max(map(len, rows)) + max(2.5 * across, 4), 0.5 + down * (1.0 + 0.32 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in panels.flat[len(columns) :]:
        axes.remove()
    for axes, column in zip(panels.flat, columns, strict=False):
        for y, row in enumerate(rows):
            cell = found[row, column]
            if not cell.accuracies:
                continue
            values = [100 * a for a in cell.accuracies.values()]
            half = 0 if math.isnan(cell.half) or cell.has_wide_interval else 100 * cell.half
            axes.errorbar(100 * cell.mean, y, xerr=half, fmt="o", color="C0", elinewidth=2, ms=6)
            if cell.has_wide_interval:
                axes.plot([min(values), max(values)], [y, y], ":", color="C0", lw=2)
            axes.plot(values, [y] * len(values), ".", color="black", ms=3, alpha=0.7)
        results = [result for row in rows for result in found[row, column].results]
        if results:
            axes.axvline(100 * results[0]["chance"], color="grey", linestyle="--", lw=1)
        axes.set(title=column, xlabel="test accuracy (%)", xlim=np.clip(axes.get_xlim(), -2, 102))
        axes.grid(alpha=0.3, axis="x")
    panels[0][0].set_yticks(range(len(rows)), rows)
    panels[0][0].set_ylim(len(rows) - 0.5, -0.5)  # the first row on top, and room for one that wasn't run
    width = int(size[0] * 10)  # letters that fit
    figure.suptitle("\n".join(textwrap.wrap(table.title, width)), fontsize=11)
    wide = any(found[row, c].has_wide_interval for row in rows for c in columns)
    figure.supxlabel(
        "mean, 95% interval" + (" (dotted: range)" if wide else "") + ", seeds; dashed: guessing", fontsize=8
    )
    figure.savefig(path, dpi=120)


def define_flags() -> None:
    flags.DEFINE_string("workdir", None, "folder of all the table's runs; none for the committed records")
    flags.DEFINE_string("preset", "small", "of the configs; empty for the full setting")
    flags.DEFINE_string("output", None, "folder for the records, the table and the plot; by default WORKDIR/NAME")


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise UserError("expected python -m experiments.table NAME")
    name, preset, workdir = argv[1], flags.FLAGS.preset, flags.FLAGS.workdir
    table = grid.table(name)
    stem, output = preset or "full", flags.FLAGS.output
    kept = grid.records_of(Path(output) / f"{stem}.jsonl") if output else []
    if kept and all(r["state"] == "not run" for r in grid.collect(table, preset, known=kept)):
        raise UserError(f"--output: {output}/{stem}.jsonl holds records of other runs than {name}'s")
    if workdir:
        source = root = Path(workdir) / name / stem
        if not root.is_dir():
            raise UserError(f"--workdir: {root} is no folder; python -m experiments.run {name} makes it")
        records = grid.collect(table, preset, root, kept)
    else:
        source, known = grid.records_path(name, preset), grid.read_records(name, preset)
        if not known:
            measured = f"; what was measured of its models is in {source.parent}" if source.parent.is_dir() else ""
            raise UserError(f"{source} is missing: this table wasn't run{measured}")
        records = grid.collect(table, preset, known=[*kept, *known])
    some = any(r["state"] == "finished" and r["selected"] for r in records)
    if output and not some:
        raise UserError(f"no cell of {name} has a result in {source} yet; --output is left as it is")
    text = markdown(records, table)
    print(text)
    if not output and workdir and some:
        output = str(Path(workdir) / name)
    folder = cli.output_folder(output)
    if folder is not None:
        partial = folder / f"{stem}.jsonl.partial"
        partial.write_text("".join(json.dumps(r) + "\n" for r in records))
        partial.replace(folder / f"{stem}.jsonl")
        (folder / f"{stem}.md").write_text(text)
        (folder / f"{stem}.tex").write_text(latex(records, table))
        (folder / f"{stem}.csv").write_text(as_csv(records, table))
        draw(records, table, folder / f"{stem}.png")
        say(f"written to {output}: {', '.join(stem + end for end in ('.md', '.tex', '.csv', '.png', '.jsonl'))}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
