"""What a table is: rows × columns × seeds of runs, and the records of those that were made.

A table stands in a module of this folder, as `TABLE`. Every run of it is one call of `python -m gconv.main`; where a
table has a sweep, each cell takes the point of it that scores best on validation with its first seed.
"""

import functools
import importlib
import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs.base import KERNELS
from gconv.errors import UserError
from gconv.training.metrics import read_json, read_jsonl, read_result

FOLDER = Path(__file__).parent
RECORDS = FOLDER / "records"
# Begins the reason of a failure that the run didn't write down itself, as one that diverged does.
CRASHED = "exit status"


def rates(*values: float) -> tuple[dict[str, Any], ...]:
    """A sweep over learning rates, for every mixer alike: the kernels' rate with all others."""
    return tuple({"optim.lr": rate, "optim.kernel_lr": rate} for rate in values)


def with_norms(
    sweep: Sequence[dict[str, Any]], norms: Sequence[str] = ("layer", "batch")
) -> tuple[dict[str, Any], ...]:
    """That sweep with each of the norms."""
    return tuple({"model.norm": norm, **point} for norm in norms for point in sweep)


class Part(NamedTuple):
    """What a row or a column says of a run: names for its config, and fields to override."""

    # Of a row MIXER[,NAME…], after the colon; of a column FILE[,NAME…], its task's in configs/. A column whose
    # overrides make sense in the small setting only names it, and is the same with any preset.
    names: str
    overrides: Mapping[str, Any] = {}


class Table(NamedTuple):
    title: str
    rows: Mapping[str, Part]
    columns: Mapping[str, Part]
    seeds: tuple[int, ...] = (0, 1, 2)
    sweep: tuple[Mapping[str, Any], ...] = ({},)  # overrides that are tried in each cell
    control: tuple[str, ...] = ()  # rows of which one must have left the level of guessing, for a column to count
    note: str = ""  # what a reader must know, below the table
    starts_from: Mapping[str, str] = {}  # column → the one whose run of the same row and seed its runs start from
    # What is measured of the trained models: called with the folders of the finished runs and that of its records.
    measure: Callable[[list[Path], Path], None] | None = None


class Run(NamedTuple):
    row: str
    column: str
    seed: int
    swept: dict[str, Any]
    config: str  # of gconv.main
    overrides: dict[str, Any]

    def folder(self, root: Path) -> Path:
        parts = [f"{field.rpartition('.')[2]}={value}" for field, value in self.swept.items()]
        return root.joinpath(*(slug(part) for part in (self.column, self.row, *parts)), f"seed{self.seed}")

    def command(self, root: Path) -> list[str]:
        """The arguments of `python -m gconv.main`."""
        fields = {**self.overrides, **self.swept, "seed": self.seed}
        return [
            f"--config={self.config}",
            f"--workdir={self.folder(root)}",
            *(f"--config.{field}={_flag(value)}" for field, value in fields.items()),
        ]


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=+-]+", "_", name).strip("_")


def _flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def names() -> list[str]:
    """The modules of this folder that hold a table."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if "\nTABLE = " in path.read_text())


def table(name: str) -> Table:
    """The table of a module of this folder; UserError if there is none of that name."""
    if name not in names():
        raise UserError(f"unknown experiment {name!r}; expected one of {', '.join(names())}")
    return importlib.import_module(f"experiments.{name}").TABLE


def of_columns(name: str, columns: Sequence[str] | None) -> Table:
    """The table of that name with only these of its columns, if any are given; UserError for one it doesn't have."""
    whole = table(name)
    unknown = [column for column in columns or () if column not in whole.columns]
    if unknown:
        raise UserError(f"--columns: {name} has no {unknown[0]!r}; it has {', '.join(whole.columns)}")
    return whole._replace(columns={column: whole.columns[column] for column in columns or whole.columns})


def runs(table: Table, preset: str) -> Iterator[tuple[str, str, list[list[Run]]]]:
    """Each cell: row, column, and its runs, for every point of the sweep those of all seeds."""
    for (column, task), (row, part) in itertools.product(table.columns.items(), table.rows.items()):
        mixer, _, rest = part.names.partition(",")  # the preset stands before kernels, which it leaves alone
        file, _, of_task = task.names.partition(",")
        names = ",".join(dict.fromkeys(name for name in (mixer, *of_task.split(","), preset, rest) if name))
        config, overrides = f"configs/{file}.py:{names}", {**task.overrides, **part.overrides}
        yield (
            row,
            column,
            [[Run(row, column, seed, dict(point), config, overrides) for seed in table.seeds] for point in table.sweep],
        )


def config_of(run: Run) -> ConfigDict:
    """The config that a run's command makes."""
    file, _, arg = run.config.partition(":")
    made = importlib.import_module(file.removesuffix(".py").replace("/", ".")).get_config(arg)
    made.update_from_flattened_dict({**run.overrides, **run.swept, "seed": run.seed})
    return made


def unmatched(run: Run) -> Run:
    """A run without a width to be solved for, which takes long; attention also without its match's kernel."""
    of_match = "|".join([r"(match|layers)=\w+", *(KERNELS if ":attention," in run.config else ())])
    return run._replace(config=re.sub(rf",({of_match})\b", "", run.config))


def check(table: Table, preset: str) -> None:
    """UserError for a cell whose config isn't known, as with a preset that its task lacks."""
    for row, column, points in runs(table, preset):
        try:
            config_of(unmatched(points[0][0]))
        except (ModuleNotFoundError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{column} | {row}: {error.args[0]}") from error


def record(run: Run, root: Path) -> dict[str, Any]:
    """What is kept of a run: what it was, its state, and if it finished its result.

    A folder whose run had another config or other fields, before the table was changed, is not this one: `gconv.main`
    will refuse it.
    """
    folder, kept = run.folder(root), {**run._asdict()}
    if (folder / "result.json").exists() and _is_of(folder, run):
        result = read_result(folder / "result.json")
        seconds = sum(line.get("seconds", 0.0) for line in read_jsonl(folder / "timings.jsonl"))
        return {**kept, "state": "finished", "result": {**result, "train_seconds": seconds}}
    if (folder / "failed").exists():
        return {**kept, "state": "failed", "reason": (folder / "failed").read_text().strip()}
    return {**kept, "state": "not run"}


def _is_of(folder: Path, run: Run) -> bool:
    """Whether a folder holds that run: by the config's name in its command, and by the fields that the table sets."""
    command, config = shlex.split(read_json(folder / "run.json")["command"]), read_json(folder / "config.json")
    if f"--config={run.config.removesuffix(',match=time')}" not in command:  # by then the width was known
        return False
    fields = {**run.overrides, **run.swept, "seed": run.seed}
    return all(functools.reduce(lambda c, key: c.get(key, {}), f.split("."), config) == fields[f] for f in fields)


def best_point(records: list[dict[str, Any]]) -> int | None:
    """Which point of the sweep the first seed's records select, by validation accuracy.

    A run that diverged counts as the worst. None before all are done, and while one failed for another reason, for
    which its point may not be to blame.
    """
    if len(records) == 1:
        return 0
    if any(r["state"] == "not run" or r.get("reason", "").startswith(CRASHED) for r in records):
        return None
    scores = [r["result"]["val_accuracy"] if r["state"] == "finished" else -1.0 for r in records]
    return scores.index(max(scores))


def finished(table: Table, preset: str, root: Path) -> list[Path]:
    """The folders of the finished runs, of each cell those at the best point of the sweep, in the table's order."""
    folders = []
    for _, _, points in runs(table, preset):
        best = best_point([record(point[0], root) for point in points])
        folders += [run.folder(root) for run in points[best or 0] if record(run, root)["state"] == "finished"]
    return folders


def collect(
    table: Table, preset: str, root: Path | None = None, known: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The records of a table's runs: of each cell the first seed at every point, and all seeds at the best.

    Of each run what is in the folder `root`, unless it finished only where the `known` records were made.
    """

    def progress(record: dict[str, Any]) -> int:
        return ("not run", "failed", "finished").index(record["state"])

    of_known = {_key(r): r for r in sorted(known, key=progress)}  # of several of one run the furthest

    def found(run: Run) -> dict[str, Any]:
        here = {**run._asdict(), "state": "not run"} if root is None else record(run, root)
        return max(here, of_known.get(_key(here), here), key=progress)

    kept = []
    for _, _, points in runs(table, preset):
        first = [found(point[0]) for point in points]
        best = best_point(first)
        for i, point in enumerate(points):
            seeds = [found(run) for run in point[1:]] if best is None or i == best else []
            if i:  # while nothing is decided, what was decided before a point was added isn't lost
                seeds = [r for r in seeds if best is not None or r["state"] == "finished"]
            kept += [{**r, "selected": i == best} for r in (first[i], *seeds)]
    return kept


def _key(record: dict[str, Any]) -> tuple[str, ...]:
    fields = (json.dumps(record[name], sort_keys=True) for name in ("overrides", "swept", "seed"))
    return record["row"], record["column"], record["config"], *fields


def records_path(name: str, preset: str) -> Path:
    return RECORDS / name / f"{preset or 'full'}.jsonl"


def read_records(name: str, preset: str) -> list[dict[str, Any]]:
    """The committed records of a table; none if it wasn't run."""
    return records_of(records_path(name, preset))


def records_of(path: Path) -> list[dict[str, Any]]:
    """The records of a file, none if there is no file. UserError for a line that is no record."""
    found = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            found.append(json.loads(line))
            _key(found[-1])
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}, line {number} is no record of a run: {error}") from error
    return found
