"""Whether what short training says holds after three to five times as much: gconv, attention, a layer of each."""

from experiments.grid import Part, Table, rates, with_norms
from experiments.regularization import LONGER

MIXERS = {
    "gconv": Part("gconv,match=parameters"),
    "gconv, squash .004": Part("gconv,match=parameters", {"model.mixer_options.kernel_options.squash": 0.004}),
    "gconv, multi-resolution kernel": Part("gconv,multi_resolution,match=parameters"),
    "gconv + attention (hybrid)": Part("hybrid,match=parameters"),
    "attention, modern": Part("attention"),
    "attention, original": Part("transformer,match=parameters"),
}

TABLE = Table(
    title="Three to five times as many steps as in the other tables, at the parameters of modern attention",
    rows=MIXERS,
    columns={
        "ListOps for 3000 steps": Part("listops,small", {"steps": 3_000, "eval_every": 500}),
        "Image for 2000 steps": Part("image,small", LONGER),
    },
    sweep=with_norms(rates(3e-3, 1e-2)),
    note="The rate rises over 100 steps, as elsewhere, and falls over the others. Heads ask for widths in steps, so the"
    " hybrid has 11 to 21% more parameters than attention.",
)
