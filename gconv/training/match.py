"""A fair match: the width at which a model equals another in parameters, FLOPs or time."""

import functools
import math
from collections.abc import Callable

import jax
from flax import nnx
from ml_collections import ConfigDict

from gconv.errors import UserError
from gconv.models.classifier import Classifier
from gconv.training.step import build_model, spec_of
from gconv.training.timing import compiled_step, medians

WIDEST = 16  # times the reference's width
FAR = 0.3  # a match is none beyond this share of the reference's figure


def match(config: ConfigDict, reference: ConfigDict, figure: str) -> int:
    """The width (config.model.features) at which config's figure is nearest to the reference's; both keep their depth.

    figure: "parameters"; "flops" of a forward pass with convolutions by FFT, or "flops_direct" by their defining sum;
    "time" of a training step, measured here and now. Widths are even, multiples of 8 if the reference is 128 or wider,
    and heads divide them. UserError if no width comes near the figure.
    """
    share = share_of_time(reference) if figure == "time" else _share_of(FIGURES[figure], reference)
    heads = [options.get("heads", 1) for options in (config.model.mixer_options, config.model.interleave.mixer_options)]
    unit = math.lcm(8 if reference.model.features >= 128 else 2, *(2 * h for h in heads))

    @functools.cache
    def at(units: int) -> float:
        wider = ConfigDict(config.to_dict())
        wider.model.features = units * unit
        return share(wider)

    # Figures grow with the width, linearly to quadratically: where their roots' line meets 1 is a step away.
    low, high = 0, max(1, reference.model.features // unit)
    while at(high) < 1:
        low, high = high, 2 * high
        if high * unit > WIDEST * reference.model.features:
            raise UserError(f"config: no width of {config.mixer} has the {figure} of {reference.mixer}")
    while high - low > 1:
        below, above = (math.sqrt(at(units)) if units else 0.0 for units in (low, high))
        middle = low + round((high - low) * (1 - below) / (above - below))
        middle = min(max(middle, low + 1), high - 1)
        low, high = (middle, high) if at(middle) < 1 else (low, middle)
    best = min(filter(None, (low, high)), key=lambda units: abs(at(units) - 1))
    if abs(at(best) - 1) > FAR:
        raise UserError(
            f"config: {config.mixer} has at best {at(best):.2f} times the {figure} of {reference.mixer}, at width"
            f" {best * unit}"
        )
    return unit * best


def _model(config: ConfigDict) -> Classifier:
    return nnx.eval_shape(lambda: build_model(config.model, spec_of(config), jax.random.key(0)))


def parameters(config: ConfigDict) -> int:
    """How many numbers the model learns."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(_model(config), nnx.Param)))


FIGURES: dict[str, Callable[[ConfigDict], float]] = {
    "parameters": parameters,
    "flops": lambda config: _model(config).flops(config.data.length).fft,
    "flops_direct": lambda config: _model(config).flops(config.data.length).direct,
}


def _share_of(figure: Callable[[ConfigDict], float], reference: ConfigDict) -> Callable[[ConfigDict], float]:
    theirs = figure(reference)
    return lambda config: figure(config) / theirs


def share_of_time(reference: ConfigDict) -> Callable[[ConfigDict], float]:
    """How long a training step of a config takes, in units of one of the reference, which is timed anew beside it.

    Both take turns, so that what else the machine does slows both down.
    """
    theirs, _ = compiled_step(reference, reference.batch_size)

    def share(config: ConfigDict) -> float:
        ours, _ = compiled_step(config, config.batch_size)
        taken = medians({"ours": ours, "theirs": theirs}, rounds=9, seconds=10)
        return taken["ours"] / taken["theirs"]

    return share
