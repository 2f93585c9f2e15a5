"""Runs the checks of tests/multidevice in a process of their own, on 8 host devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = sorted((Path(__file__).parent / "multidevice").glob("check_*.py"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda path: path.stem)
def test_on_eight_devices(check):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", str(check)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
