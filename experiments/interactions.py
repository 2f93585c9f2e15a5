"""Which pairs of tokens interact in trained models, how strongly, and how far they see, by depth and distance.

`python -m experiments.run interactions --output=experiments/records/interactions` trains and measures them, after the
exact table of `experiments.structure`. What is measured, `experiments.meter` says.
"""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

import gconv
from experiments import meter, structure
from experiments.grid import Part, Table, rates, with_norms
from experiments.table import shown_mean
from gconv.data import tasks
from gconv.data.dataset import Split
from gconv.models.classifier import Classifier
from gconv.progress import say
from gconv.training.metrics import read_json, write_json
from gconv.training.step import build_model


class Model(NamedTuple):
    """What the meter reads of a run."""

    mixer: str
    layers: int
    features: int
    norm: str
    rate: float
    seed: int
    test_accuracy: float
    trained: list[float]  # the interaction in each of the meter's bins
    untrained: list[float]  # the same before training
    field: list[float]  # the receptive field at each distance
    untrained_field: list[float]


def read(run: Path, test: Split, pairs: list[meter.Pairs]) -> Model:
    """Measures a finished run, on expressions of the test split and on pairs of their tokens."""
    trained = gconv.load(run)
    config = trained.config
    before = untrained(config)
    return Model(
        config.mixer,
        config.model.layers,
        config.model.features,
        config.model.norm,
        config.optim.lr,
        config.seed,
        read_json(run / "result.json")["test_accuracy"],
        *([meter.interaction(p, meter.scores_of(model)) for p in pairs] for model in (trained.model, before)),
        *(
            meter.receptive_field(model, test, EXAMPLES, np.random.default_rng(0)).tolist()
            for model in (trained.model, before)
        ),
    )


def draw(split: Split) -> list[meter.Pairs]:
    """The pairs of each of the meter's bins."""
    rng = np.random.default_rng(0)
    return [meter.draw_pairs(split, low, high, PAIRS, rng) for low, high in meter.bins(split.inputs.shape[1])]


def untrained(config: ml_collections.ConfigDict) -> Classifier:
    """The model that a run of this config started from."""
    init_key, _ = jax.random.split(jax.random.key(config.seed))  # as the run itself did
    return build_model(config.model, tasks.spec(config.data.name, config.data.length, config.data.options), init_key)


def measure(runs: list[Path], folder: Path) -> None:
    """The exact table; then of the trained models interactions, receptive fields and kernels."""
    with jax.enable_x64(True):
        structure.save(structure.measure(), folder)
    first = gconv.load(runs[0]).config
    test = tasks.load(**first.data, data_dir=first.data_dir).splits["test"]
    pairs = draw(test)  # the same for every run
    models = []
    for run in runs:
        models.append(read(run, test, pairs))
        say(f"{run}: interactions {', '.join(f'{value:.2f}' for value in models[-1].trained)}")
    task = [meter.interaction(p, meter.true_scores) for p in pairs]
    record = {"length": test.inputs.shape[1], "task": task, "models": [model._asdict() for model in models]}
    write_json(folder / "trained.json", record)
    (folder / "trained.md").write_text(trained_table(record))
    draw_interactions(record, folder / "trained.png")
    draw_fields(record, folder / "field.png")
    chosen = [run for run, model in zip(runs, models, strict=True) if model[:2] == ("gconv", 2)]
    if chosen:
        draw_kernels(chosen[0], folder / "kernels.png")


def groups(record: dict[str, Any]) -> dict[tuple[str, int], list[Model]]:
    """The models by mixer and depth, a model a seed."""
    found: dict[tuple[str, int], list[Model]] = {}
    for model in (Model(**m) for m in record["models"]):
        found.setdefault((model.mixer, model.layers), []).append(model)
    return found


def trained_table(record: dict[str, Any]) -> str:
    ranges = meter.bins(record["length"])
    heads = [f"{low} to {high}" if high > low else f"{low}" for low, high in ranges]
    lines = [
        "| mixer | layers × width | norm, rate | accuracy (%) | "
        + " | ".join(f"distance {head}" for head in heads)
        + " | all | untrained, all |",
        "|---|---|---|---:|" + "---:|" * (len(ranges) + 2),
        "| ListOps itself | | | | "
        + " | ".join(f"{value:.2f}" for value in [*record["task"], float(np.mean(record["task"]))])
        + " | |",
    ]
    found = groups(record)
    for mixer, layers in itertools.product(NAMES, WIDTHS):
        models = found.get((mixer, layers), [])
        chosen, figures = "", ["not run", *[""] * (len(ranges) + 2)]
        if models:
            rows = [
                [100 * m.test_accuracy, *m.trained, *(float(np.mean(of)) for of in (m.trained, m.untrained))]
                for m in models
            ]
            figures = [shown_mean(values, 2 if i else 1) for i, values in enumerate(zip(*rows, strict=True))]
            chosen = f"{models[0].norm}, {models[0].rate:g}"
            lacking = len(TABLE.seeds) - len(models)
            figures[0] += f" ({lacking} of {len(TABLE.seeds)} seeds lacking)" if lacking else ""
        width = models[0].features if models else WIDTHS[layers]
        lines.append(f"| {NAMES[mixer]} | {layers} × {width} | {chosen} | " + " | ".join(figures) + " |")
    return "\n".join(lines) + "\n\n" + NOTE


def _panels(record: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A figure with a panel a mixer."""
    from matplotlib.figure import Figure

    mixers = list(dict.fromkeys(mixer for mixer, _ in groups(record)))
    figure = Figure(figsize=(1 + 3 * len(mixers), 4), layout="constrained")
    panels = figure.subplots(1, len(mixers), sharey=True, squeeze=False)
    for axes, mixer in zip(panels[0], mixers, strict=True):
        axes.set(title=NAMES[mixer], xlabel="distance |i − j|", xscale="log")
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    return figure, dict(zip(mixers, panels[0], strict=True))


def _colour(layers: int) -> Any:
    import matplotlib

    depths = sorted(WIDTHS)
    return matplotlib.colormaps["viridis"](0.9 * depths.index(layers) / (len(depths) - 1))


def draw_interactions(record: dict[str, Any], path: Path) -> None:
    """A panel a mixer: interaction by distance, a line a depth, dashed before training; ListOps' own dotted."""
    figure, panels = _panels(record)
    centres = [np.sqrt(low * high) for low, high in meter.bins(record["length"])]
    for (mixer, layers), models in groups(record).items():
        axes, colour = panels[mixer], _colour(layers)
        axes.plot(centres, np.mean([m.trained for m in models], axis=0), "o-", color=colour, label=_depth(layers))
        axes.plot(centres, np.mean([m.untrained for m in models], axis=0), "--", color=colour, lw=1)
    for axes in panels.values():
        axes.plot(centres, record["task"], ":", color="black", label="ListOps itself")
        axes.set_ylim(bottom=0)
    first = next(iter(panels.values()))
    first.set_ylabel("interaction / effects")
    _legend(figure, first)
    _save(figure, "How strongly pairs of tokens interact, trained (solid) and before training (dashed)", path)


def draw_fields(record: dict[str, Any], path: Path) -> None:
    """A panel a mixer: the receptive field, a line a depth, dashed before training."""
    figure, panels = _panels(record)
    for (mixer, layers), models in groups(record).items():
        axes, colour = panels[mixer], _colour(layers)
        for fields, style in (([m.field for m in models], "-"), ([m.untrained_field for m in models], "--")):
            values = np.sqrt(np.mean(np.square(fields), axis=0))
            axes.plot(
                range(1, len(values)),
                values[1:],
                style,
                color=colour,
                lw=1.5 if style == "-" else 1,
                label=_depth(layers) if style == "-" else None,
            )
        axes.set_yscale("log")
    first = next(iter(panels.values()))
    first.set_ylabel("gradient, of that at distance 0")
    _legend(figure, first)
    _save(figure, "Effective receptive field of the last layer, trained (solid) and before training (dashed)", path)


def draw_kernels(run: Path, path: Path) -> None:
    """The learnt kernels of a gconv: each layer's taps, and their root mean square over channels beside its start."""
    from matplotlib.figure import Figure

    trained = gconv.load(run)
    before = untrained(trained.config)
    layers = len(trained.model.blocks)
    figure = Figure(figsize=(1 + 4 * layers, 6), layout="constrained")
    panels = figure.subplots(2, layers, squeeze=False)
    for layer in range(layers):
        taps, start = (np.asarray(model.blocks[layer].mixer.conv.kernel()) for model in (trained.model, before))
        reach = taps.shape[1] // 2
        lags, limit = np.arange(-reach, reach + 1), np.quantile(np.abs(taps), 0.995)
        image = panels[0][layer].imshow(
            taps, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(-reach, reach, len(taps), 0)
        )
        panels[0][layer].set(title=f"layer {layer + 1}", xlabel="lag", ylabel="channel")
        figure.colorbar(image, ax=panels[0][layer])
        for values, style, label in ((taps, "-", "trained"), (start, "--", "before")):
            panels[1][layer].plot(lags, np.sqrt(np.mean(np.square(values), axis=0)), style, label=label)
        panels[1][layer].set(xlabel="lag (positive: of earlier tokens)", ylabel="root mean square over channels")
        panels[1][layer].set_ylim(bottom=0)
        panels[1][layer].grid(alpha=0.3)
    panels[1][0].legend()
    _save(figure, "The kernels of a gconv of two layers, one seed, without the skip D", path)


def _depth(layers: int) -> str:
    return f"{layers} layer" + ("s" if layers > 1 else "")


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)


def _save(figure: Any, title: str, path: Path) -> None:
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


PAIRS, EXAMPLES = 128, 128  # of the meter: pairs at each distance, and gradients of the receptive field
NAMES = {"gconv": "gconv", "mlp_mixer": "MLP-Mixer", "fnet": "FNet", "attention": "attention"}
WIDTHS = {1: 32, 2: 32, 4: 32, 12: 16, 24: 16}  # by depth: the deep ones narrow, so that two cores carry them
NOTE = f"""Interaction beside effects, as root mean squares: 0 is a sum of functions of one token each, √2 scores at
random. Mean ± half of the 95% interval over seeds, {PAIRS} pairs of test expressions at each distance, tokens replaced
by others of their kind. "All" is the mean over the distances, also before training. A run takes 400 steps, and models
of 12 and 24 layers are half as wide, so rows differ in parameters and their accuracies are no comparison of depths.
Norm and rate: as validation chose for each with its first seed, out of layer and batch norm at .003 and .01 each.
"""

TABLE = Table(
    title="Depth by mixer, 400 steps",
    rows={
        f"{name}, {layers} layers": Part(mixer, {"model.layers": layers, "model.features": width, "steps": 400})
        for mixer, name in NAMES.items()
        for layers, width in WIDTHS.items()
    },
    columns={"ListOps": Part("listops,small")},
    sweep=with_norms(rates(3e-3, 1e-2)),
    measure=measure,
)
