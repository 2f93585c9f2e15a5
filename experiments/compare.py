"""A table and the learning curves of finished runs: python -m experiments.compare --output=FILE.png RUN [RUN …]

Everything shown is read from the runs' result.json and metrics.jsonl.
"""

from pathlib import Path
from typing import Any

from absl import flags

from gconv import cli
from gconv.errors import UserError
from gconv.report.runs import wilson_interval
from gconv.training.metrics import read_json, read_jsonl

_OUTPUT = flags.DEFINE_string("output", None, "PNG file for the learning curves")


def read_run(run: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(result.json, the records of metrics.jsonl). UserError if the run isn't finished."""
    path = Path(run) / "result.json"
    if not path.exists():
        raise UserError(f"{path} is missing: this run isn't finished")
    return read_json(path), read_jsonl(Path(run) / "metrics.jsonl")


def table(results: list[dict[str, Any]]) -> str:
    """The results, one a row, as a Markdown table. FLOPs are counted by FFT and by the convolution's direct sum."""
    heads = [
        "mixer",
        "test accuracy",
        "95% interval",
        "chance",
        "parameters",
        "FLOPs/token",
        "direct",
        "examples/s",
        "peak memory",
    ]
    rows = [heads]
    for result in results:
        low, high = wilson_interval(result["test_accuracy"], result["data"]["examples"]["test"])
        rows.append(
            [
                result["mixer"],
                f"{100 * result['test_accuracy']:.1f}%",
                f"{100 * low:.1f} – {100 * high:.1f}%",
                f"{100 * result['chance']:.1f}%",
                f"{result['parameters']:,}",
                f"{result['flops_per_token']:,.0f}",
                f"{result['flops_per_token_direct']:,.0f}",
                f"{result['examples_per_second']:,.0f}",
                f"{result['peak_memory_bytes'] / 2**20:,.0f} MiB",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    rows.insert(1, ["-" * (width - 1) + ":" for width in widths])
    return "\n".join("| " + " | ".join(map(str.rjust, row, widths)) + " |" for row in rows)


def draw(runs: list[tuple[dict[str, Any], list[dict[str, Any]]]], path: Path) -> None:
    """Training loss and validation accuracy against the step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for result, records in runs:
        name = f"{result['mixer']} (test {100 * result['test_accuracy']:.1f}%)"
        train = [record for record in records if record["split"] == "train"]
        validation = [record for record in records if record["split"] == "validation"]
        left.plot([r["step"] for r in train], [r["loss"] for r in train], label=name)
        right.plot(
            [r["step"] for r in validation], [100 * r["accuracy"] for r in validation], marker="o", ms=4, label=name
        )
    right.axhline(100 * runs[0][0]["chance"], color="grey", linestyle="--", label="always the largest class")
    left.set(xlabel="step", ylabel="training loss (nats)", title="Training loss")
    right.set(xlabel="step", ylabel="validation accuracy (%)", title="Validation accuracy")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(runs[0][0]["data"]["name"])
    figure.savefig(path, format=path.suffix[1:] or "png", dpi=130)


def main(argv: list[str]) -> None:
    if len(argv) < 2:
        raise UserError("expected the folders of finished runs: python -m experiments.compare RUN [RUN …]")
    runs = [read_run(run) for run in argv[1:]]
    results = [result for result, _ in runs]
    for same in ("data", "steps", "device"):
        if any(result[same] != results[0][same] for result in results):
            values = "; ".join(f"{run}: {result[same]}" for run, result in zip(argv[1:], results, strict=True))
            raise UserError(f"these runs differ in {same} and can't be compared: {values}")
    data = results[0]["data"]
    print(f"\n{data['name']}, {data['source']}\n{results[0]['steps']:,} steps on {results[0]['device']}\n")
    print(table(results))
    if _OUTPUT.value:
        try:
            draw(runs, Path(_OUTPUT.value))
        except (OSError, ValueError) as error:  # the latter for a format that isn't known
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--output: {_OUTPUT.value} can't be written: {reason}") from error
        print(f"\nlearning curves: {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
