"""Long Range Arena's full models after the first few epochs, at rates that fall over these: minutes on an accelerator.

    python -m experiments.run lra_short --preset= --jobs=1 --workdir=runs
    python -m experiments.table lra_short --preset= --workdir=runs --output=experiments/records/lra_short

Data, batches and rates are those of `experiments.lra`; only the steps are fewer, and warm-up and validation with them.
"""

from experiments import lra
from experiments.grid import Part, Table

FEWER = {"steps": 4000, "optim.warmup_steps": 100, "eval_every": 1000}

TABLE = Table(
    title="Long Range Arena's full models, a fiftieth of Image's steps",
    rows={row: part for row, part in lra.TABLE.rows.items() if "miralles" not in part.names},  # whose steps are its own
    columns={"Image for 4000 steps": Part("image", {**lra.BF16, **FEWER})},
    note="Each at its published size, which isn't the other's: attention's is 3 × 64, gconv's 6 × 512.",
)
