"""How many devices the cores of a CPU are made."""

import os

import jax
import pytest

from configs import base
from gconv.training import sharding


@pytest.mark.parametrize(
    ("batch", "accumulate", "cores", "devices"),
    [
        (32, 1, 2, 2),
        (32, 1, 6, 4),  # six don't divide the batch
        (32, 1, 64, 16),  # two examples at least each
        (50, 1, 4, 2),
        (32, 4, 8, 4),
        (3, 1, 2, None),
        (32, 1, 1, None),
        (0, 1, 2, None),  # not here but where the config is checked does it end the run
        (32, 0, 2, 2),
    ],
)
def test_as_many_cores_as_divide_the_batch(batch, accumulate, cores, devices, monkeypatch):
    assert told(monkeypatch, cores, batch_size=batch, **{"optim.accumulate": accumulate}) == (
        {} if devices is None else {"jax_num_cpu_devices": devices}
    )


def test_whoever_has_decided_is_left_alone(monkeypatch):
    assert told(monkeypatch, 2, batch_size=32, **{"mesh.data": 1}) == {}
    assert told(monkeypatch, 2, batch_size=32, **{"mesh.sequence": 2}) == {}
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
        assert told(monkeypatch, 2, batch_size=32) == {}
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    assert told(monkeypatch, 2, batch_size=32) == {}


def test_jax_that_was_used_already_is_left_as_it_is(monkeypatch):
    jax.devices()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    config = base.base("gconv")
    config.batch_size = 32
    sharding.split_over_cores(config)
    assert jax.device_count() == 1


def told(monkeypatch, cores, **fields):
    """What JAX was told."""
    config, seen = base.base("gconv"), {}
    config.update_from_flattened_dict(fields)
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: range(cores))
        patch.setattr(jax.config, "update", lambda name, value: seen.update({name: value}))
        sharding.split_over_cores(config)
    return seen
