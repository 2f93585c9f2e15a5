"""The width that `match=time` finds for a run: python -m experiments.width RUN, in JSON; experiments.run calls it.

A process of its own, as a run is, with the cores, the devices and the allocator that a run has; and an accelerator is
free for the runs again when it ends.
"""

import json

from experiments import grid
from gconv import cli
from gconv.errors import UserError
from gconv.training import sharding


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise UserError("expected python -m experiments.width RUN")
    run = grid.Run(**json.loads(argv[1]))
    sharding.split_over_cores(grid.config_of(grid.unmatched(run)))
    print(grid.config_of(run).model.features)


if __name__ == "__main__":
    cli.restart_with_fast_malloc()
    cli.run(main)
