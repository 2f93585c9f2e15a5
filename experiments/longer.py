"""Whether what short training says holds after five times as much: gconv, attention, and one layer of each."""

from experiments.grid import Part, Table, rates, with_norms

LONGER = {"steps": 3_000, "eval_every": 500}

TABLE = Table(
    title="Five times as many steps as in the other tables, at the parameters of modern attention",
    rows={
        "gconv": Part("gconv,match=parameters"),
        "gconv + attention (hybrid)": Part("hybrid,match=parameters"),
        "attention, modern": Part("attention"),
    },
    columns={"ListOps for 3000 steps": Part("listops,small", LONGER)},
    sweep=with_norms(rates(3e-3, 1e-2)),
    note="The rate rises over 100 steps, as elsewhere, and falls over the others. Heads ask for widths in steps, so the"
    " hybrid has 11% more parameters than attention.",
)
