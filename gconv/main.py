"""Trains and evaluates: python -m gconv.main --config=configs/TASK.py:MIXER[,NAME…] --workdir=DIR

Several processes train as one. On TPU pods and under Slurm they find each other; elsewhere start the same command N
times, with --coordinator=HOST:PORT --processes=N --process=0, 1, … They share the workdir.

Exit status: 0 finished, 2 bad input, 75 stopped by SIGTERM or Ctrl-C with all that was done saved, 130 interrupted
before or after training or by a second Ctrl-C, 1 anything else. After 75, 130, 1 or a kill, the same command goes on.
"""

import os
import re
import sys

from absl import flags
from ml_collections import config_flags

from gconv import cli
from gconv.errors import Stopped, UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/TASK.py:MIXER[,NAME…]", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of this run: records, checkpoints, result")
_ACCEPT_CHANGES = flags.DEFINE_bool("accept_changes", False, "go on with an unfinished run whose config was another")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where several processes meet")
_PROCESSES = flags.DEFINE_integer("processes", None, "how many processes train together", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "which of them this is, from 0", lower_bound=0)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; options are written --name=value")
    config = _CONFIG.value
    if config is None or not _WORKDIR.value:
        raise UserError("both --config=configs/TASK.py:MIXER[,NAME…] and --workdir=DIR are needed")
    try:
        config.lock()
    except OSError as error:  # a file that isn't there shows only when its config is first used; its reason stands last
        raise UserError(
            "--config: " + re.sub(r".*(\[Errno \d+\]|to load:) ", "", str(error), flags=re.DOTALL)
        ) from error
    if "mixer" in config_flags.get_override_values(flags.FLAGS["config"]):
        raise UserError("config.mixer can't be overridden: it is the name after the colon of --config")
    import jax  # after the flags: a typo shouldn't wait for imports

    from gconv.ops.partitioning import cache_by_name
    from gconv.training import processes, sharding
    from gconv.training.loop import train_and_evaluate

    cache_by_name()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # so that a run that goes on needn't compile again
        jax.config.update("jax_compilation_cache_dir", os.path.join(_WORKDIR.value, "compiled"))
    if not processes.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value):
        sharding.split_over_cores(config)
    try:
        train_and_evaluate(config, _WORKDIR.value, _ACCEPT_CHANGES.value)
    except (Stopped, BrokenPipeError):  # stopped as every process is, at the same step; or nobody reads what is printed
        raise
    except BaseException as error:
        # Not sys.exit. It would have several processes wait in JAX's exit barrier for those that failed, or for those
        # that don't know yet: it is by our going that they learn of it. And where a disk is full, threads of libraries
        # that still write to it can abort the interpreter while it ends.
        status = cli.status_of(error)
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    cli.restart_with_fast_malloc()
    cli.run(main)
