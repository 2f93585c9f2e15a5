import os
import signal
from concurrent.futures import BrokenExecutor

import pytest

from gconv.data import tasks
from gconv.data.generators import listops
from gconv.data.generators.workers import map_in_order
from gconv.errors import UserError


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_dies_is_an_error_and_no_wait():
    assert list(map_in_order(abs, [(-1,), (2,)], 2)) == [1, 2]
    with pytest.raises(BrokenExecutor):
        list(map_in_order(die, [(i,) for i in range(9)], 2))


def test_a_preparation_that_loses_a_worker_says_so_and_leaves_nothing(tmp_path, monkeypatch):
    def generate(*arguments):
        return map_in_order(die, [(3,)], 1)

    monkeypatch.setattr(listops, "generate", generate)
    with pytest.raises(UserError, match="listops: a process that generated examples died"):
        tasks.prepare("listops", "smoke", str(tmp_path))
    assert not (tmp_path / "listops").exists()
