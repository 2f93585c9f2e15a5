"""Trains and evaluates: python -m gconv.main --config=configs/TASK.py:MIXER[,NAME…] --workdir=DIR"""

from absl import flags
from ml_collections import config_flags

from gconv import cli
from gconv.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/TASK.py:MIXER[,NAME…]", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of this run: records, checkpoints, result")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; options are written --name=value")
    config = _CONFIG.value
    if config is None or not _WORKDIR.value:
        raise UserError("both --config=configs/TASK.py:MIXER[,NAME…] and --workdir=DIR are needed")
    try:
        config.lock()
    except OSError as error:  # a file that isn't there shows only when its config is first used
        raise UserError(f"--config: {error}") from error
    from gconv.training.loop import train_and_evaluate  # after the flags: a typo shouldn't wait for imports

    train_and_evaluate(config, _WORKDIR.value)


if __name__ == "__main__":
    cli.restart_with_fast_malloc()
    cli.run(main)
