"""Several processes that train as one: how they meet, wait for each other, and stop at the same step.

All run the same program on their part of the data. Process 0 alone prepares data and writes records.
"""

import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from gconv.errors import UserError
from gconv.progress import be_silent

T = TypeVar("T")
HEARTBEAT_SECONDS = 10  # a process not heard of for so long is dead, and the others end


def join(coordinator: str | None, processes: int | None, process: int | None) -> bool:
    """Joins this process to those that it trains with, and returns whether there are any.

    Without arguments JAX finds them by itself on TPU pods and under Slurm (one process a task of `srun`); where it
    knows of none, this process trains alone. UserError for some arguments without the others, or an address that can't
    be used; where the others don't come, JAX ends the process itself after five minutes.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise UserError(f"--coordinator, --processes and --process go together; {' and '.join(missing)} missing")
    if missing and os.environ.get("SLURM_NTASKS", "1") == "1" and "SLURM_JOB_ID" in os.environ:
        return False  # JAX would leave such a task one of the devices it was given
    # Orbax asks this service whether to save at every step; SIGTERM is `StopSignal`'s.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
        if missing and isinstance(error, ValueError):  # neither a TPU pod nor Slurm
            return False
        if missing and "before any JAX" in str(error):  # match=time has measured something to resolve the config
            if os.environ.get("SLURM_NTASKS", "1") == "1" and jax.default_backend() != "tpu":
                return False
            raise UserError("match=time can't be found by several processes: pass --config.model.features") from error
        where = f" at {coordinator}" if coordinator else ""
        raise UserError(f"the processes can't meet{where}: {error}") from error
    if not is_first():
        be_silent()
    return jax.process_count() > 1


def is_first() -> bool:
    return jax.process_index() == 0


def from_first(number: int) -> int:
    """Process 0's number, on every process."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def first_before_others(make: Callable[[], T]) -> T:
    """What `make` returns, called in process 0 before the others, which find what it has prepared."""
    if not is_first():
        _wait_for_all("first")
    made = make()
    if is_first():
        _wait_for_all("first")
    _wait_for_all("others")
    return made


def _wait_for_all(name: str) -> None:
    """Returns once every process has come here. Unlike devices, which wait half a minute, it has patience."""
    day = 24 * 60 * 60
    multihost.sync_global_processes(name, timeout=day, processes=set(range(jax.process_count())))


class StopSignal:
    """Within this context SIGTERM and Ctrl-C don't end the process, and every process learns of them at the same step.

    A second Ctrl-C interrupts at once.
    """

    def __init__(self, mesh: Mesh):
        self._received = False
        self._of_devices = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._any = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def __enter__(self) -> "StopSignal":
        self._before = {kind: signal.signal(kind, self._receive) for kind in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def _receive(self, kind: int, _: object) -> None:
        self._received = True
        if kind == signal.SIGINT:
            signal.signal(kind, signal.default_int_handler)

    def received_anywhere(self) -> Any:
        """Whether any process has received it: a bool, or an array of one that may still be on its way."""
        if jax.process_count() == 1:
            return self._received
        mine = np.array([self._received])
        flags = jax.make_array_from_callback((jax.device_count(),), self._of_devices, lambda _: mine)
        return self._any(flags)
