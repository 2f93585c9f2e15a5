import os

from gconv.cores import usable_cores


def test_the_cores_are_this_process_s_or_all(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 1}, raising=False)
    assert usable_cores() == [1, 3]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert usable_cores() == [0, 1, 2, 3]
