"""The question's stack to the letter, of 2, 12 and 24 convolutions, beside gconv's blocks and attention as deep."""

from typing import Any

from experiments.grid import Part, Table, rates, with_norms

# Around the circle, and no channel meets another but in a layer norm.
LETTER: dict[str, Any] = {"model.mixer_options.boundary": "circular", "model.mlp_ratio": 0.0}

TABLE = Table(
    title="Stacks at one width",
    rows={
        **{
            f"{2 * pairs} convolutions (the question's)": Part("gconv_plain", LETTER | {"model.layers": pairs})
            for pairs in (1, 6, 12)
        },
        **{f"gconv, {n} layers": Part("gconv", {"model.layers": n}) for n in (2, 12, 24)},
        **{f"attention, {n} layers": Part("attention", {"model.layers": n}) for n in (2, 12, 24)},
    },
    columns={"ListOps": Part("listops")},
    sweep=with_norms(rates(1e-3, 3e-3, 1e-2, 3e-2)),
    note="The question's: pairs of circular convolutions with a GELU between, a norm before and a residual around each"
    " pair; no channel meets another but in a layer norm, with batch norm none. The others have a perceptron in every"
    " layer. In the small setting all have 32 channels.",
)
