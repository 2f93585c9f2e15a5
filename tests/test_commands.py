"""The commands as typed: what bad input gets, and the comparison at the end."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import compare
from gconv import cli
from gconv.errors import UserError

ROOT = Path(__file__).parents[1]


def command(module, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error::DeprecationWarning:gconv", **environment},
        timeout=120,
    )


@pytest.mark.parametrize("theirs", ["", "glibc.malloc.check=0"])
def test_a_training_process_has_the_fast_allocator_or_the_users_own(theirs):
    script = (
        "import os, sys; from gconv import cli; cli.restart_with_fast_malloc(); print(os.environ['GLIBC_TUNABLES'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= {"GLIBC_TUNABLES": theirs} if theirs else {}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    if not cli._has_malloc_hugetlb():
        pytest.skip("no glibc that has the setting")
    assert done.stdout == f"{theirs or cli.MALLOC}\n" and not done.stderr
    for module in ("gconv/main.py", "gconv/predict.py", "scripts/benchmark/__main__.py"):
        assert "    cli.restart_with_fast_malloc()" in (ROOT / module).read_text()


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_is_no_failure(flag):
    done = command("gconv.prepare", flag)
    assert done.returncode == 0 and "--data_dir: folder of the prepared data sets" in done.stdout and not done.stderr


def test_help_whose_reader_has_seen_enough_is_no_bad_input():
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [sys.executable, "-m", "gconv.prepare", "--help"]
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert done.returncode in (0, 128 + signal.SIGPIPE) and not done.stderr


def test_a_config_that_ends_the_command_keeps_its_status(tmp_path):
    (tmp_path / "mine.py").write_text("import sys\n\n\ndef get_config(arg):\n    sys.exit(3)\n")
    done = command("gconv.main", f"--config={tmp_path}/mine.py:gconv", f"--workdir={tmp_path}/run")
    assert done.returncode == 3


@pytest.mark.parametrize("number, path, line", [
    (errno.ENOSPC, None, "error: No space left on device\n"),
    (errno.ENOSPC, "runs/b.json", "error: runs/b.json: No space left on device\n"),
    (errno.EACCES, "runs/a.json", "error: runs/a.json: Permission denied\n"),
])  # fmt: skip
def test_a_disk_that_is_full_or_closed_ends_in_one_line(capsys, number, path, line):
    def main(argv):
        raise OSError(number, os.strerror(number), path)

    with pytest.raises(SystemExit) as ended:
        cli._reporting(main)(["command"])
    assert ended.value.code == 2 and capsys.readouterr().err == line
    for other in (ConnectionResetError(errno.ECONNRESET, "reset"), PermissionError(errno.EPERM, "not allowed")):
        with pytest.raises(type(other)):  # what says of no file isn't known to be one's
            cli._reporting(lambda argv, other=other: (_ for _ in ()).throw(other))(["command"])


SMOKE = "--config=configs/listops.py:gconv,smoke"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([SMOKE, "--config.optim.learning_rate=1"], "error: the config has no 'learning_rate'"),
        ([SMOKE, "--config.stepss=1"], "error: the config has no 'stepss' Did you mean \"steps\" instead"),
        ([SMOKE, "--config.nothing=1"], "nothing"),
        ([SMOKE, "--config.optim.lr=fast"], "fast"),
        ([SMOKE, "--config.steps=1.5"], "1.5"),
        ([SMOKE, "--config.model.mixer_options.heads=2"], "heads"),
        ([SMOKE, "extra"], "unexpected argument 'extra'"),
        ([SMOKE, "--confg.steps=3"], "confg.steps"),
        (
            ["--config=configs/listops.py:conv"],
            "configs/listops.py:conv: config:conv: expected :MIXER[,NAME…] with MIXER one of gconv,",
        ),
        (
            ["--config=configs/listops.py:gconv,tiny"],
            "unknown name 'tiny'; expected one of sgconv, lra, miralles, quickstart",
        ),
        (["--config=configs/listops.py:gconv,layers=0"], "expected layers= a number of at least 1; got 'layers=0'"),
        (["--config=configs/pathx.py:gconv,side64"], "side64: a FreeKernel has the taps of one length only"),
        (["--config=configs/listops.py"], "expected :MIXER[,NAME…]"),
        (["--config=configs/listops.py:attention,diagonal"], "attention has no kernel to be diagonal"),
        (
            ["--config=configs/listops.py:gconv,match=size"],
            "expected match= one of parameters, flops, flops_direct, time",
        ),
        (["--config=configs/speech.py:gconv"], "error: --config: No such file or directory: 'configs/speech.py'\n"),
        (["--config=/tmp/a] b.py:gconv"], "error: --config: No such file or directory: '/tmp/a] b.py'\n"),
        (["--config=configs"], "error: --config: Is a directory: 'configs'\n"),
        (["--config="], "error: --config: Path to config file is an empty string."),
        ([], "both --config=configs/TASK.py:MIXER[,NAME…] and --workdir=DIR are needed"),
        ([SMOKE, "--config.data_dir=/nowhere/data"], "data_dir /nowhere/data: the folder /nowhere doesn't exist"),
        ([SMOKE, "--config.data_dir=setup.py"], "data_dir setup.py can't be written"),
        ([SMOKE, "--config.mixer=attention"], "config.mixer can't be overridden: it is the name after the colon"),
        ([SMOKE, "--workdir=setup.py/run"], "workdir setup.py/run can't be written"),
    ],
)
def test_bad_input_gets_one_line_and_a_status(tmp_path, arguments, message):
    if arguments and not arguments[-1].startswith("--workdir"):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    done = command("gconv.main", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "run/result.json").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            [],
            "expected one task: listops, text, retrieval, image, pathfinder, pathx, path256, same_film, or all; got",
        ),
        (["speech"], "unknown task 'speech'; expected one of listops, text, retrieval, image, "),
        (["listops/tiny"], "listops has no variant 'tiny'; it has lra, short, smoke"),
        (["pathfinder/tiny"], "pathfinder has no variant 'tiny'; it has lra, short, smoke"),
        (["text/lra"], "text has no variant 'lra'; it has none"),
        (["text", "--source=/nowhere"], "--source: /nowhere is no folder"),
        (["all", "--show"], "--show draws one task at a time; got all"),
        (["text", "--sheet=a.png"], "--sheet names the file that --show draws; give both"),
        (["text", "--data_dir=/nowhere/data"], "data_dir /nowhere/data: the folder /nowhere doesn't exist"),
    ],
)
def test_bad_input_to_prepare(tmp_path, arguments, message):
    done = command("gconv.prepare", f"--data_dir={tmp_path}", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr


def test_a_run_from_the_command_line_and_its_comparison(tmp_path):
    for mixer in ("gconv", "attention"):
        done = command(
            "gconv.main",
            f"--config=configs/listops.py:{mixer},smoke",
            f"--workdir={tmp_path / mixer}",
            f"--config.data_dir={tmp_path}",
            "--config.steps=10",
            "--config.model.layers=1",
            "--config.optim.lr=2e-3",
        )
        assert done.returncode == 0, done.stderr
        assert "step      10 of 10  test" in done.stderr
        run = json.loads((tmp_path / mixer / "run.json").read_text())
        assert "gconv.main" in run["command"] and "--config.steps=10" in run["command"]
        assert json.loads((tmp_path / mixer / "config.json").read_text())["optim"]["lr"] == 2e-3
    runs = [str(tmp_path / mixer) for mixer in ("gconv", "attention")]
    done = command("experiments.compare", f"--output={tmp_path / 'curves.png'}", *runs)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gconv/result.json").read_text())
    row = next(line for line in done.stdout.splitlines() if " gconv |" in line)
    assert f"{100 * result['test_accuracy']:.1f}%" in row and f"{result['parameters']:,}" in row
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_leaves_pytorch_alone(tmp_path):
    """tensorboardX imports it where it is installed, which takes longer than all else a command imports."""
    pytest.importorskip("torch")
    program = """
import sys
from pathlib import Path
from gconv.training import loop, metrics
metrics._summary_writer(Path(sys.argv[1]), 1).close()
assert "torch" not in sys.modules
import torch
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)


def test_comparing_what_cannot_be_compared(tmp_path):
    with pytest.raises(UserError, match=r"result\.json is missing: this run isn't finished"):
        compare.read_run(str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"data": {"name": name}, "steps": 3, "device": "one"}))
    done = command("experiments.compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert done.returncode == 2 and "these runs differ in data and can't be compared: " in done.stderr


def test_a_reader_that_leaves_early_ends_a_command_without_a_word():
    command = [sys.executable, "-m", "experiments.table", "main"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_wilson_interval():
    low, high = compare.wilson_interval(0.5, 100)
    assert (round(low, 4), round(high, 4)) == (0.4038, 0.5962)  # Brown, Cai & DasGupta 2001, by hand
    assert compare.wilson_interval(0.0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert compare.wilson_interval(0.0, 10)[1] == pytest.approx(0.2775, abs=1e-4)


def test_the_quickstart_compares_equals_each_at_the_rate_that_its_table_chose():
    from configs import listops
    from experiments import grid

    gconv, attention = (listops.get_config(f"{mixer},quickstart") for mixer in ("gconv", "attention"))
    different = {name for name, value in gconv.to_dict().items() if value != attention.to_dict()[name]}
    assert different == {"mixer", "model", "optim"}
    for part, fields in (("model", {"mixer", "mixer_options"}), ("optim", {"lr", "kernel_lr"})):
        of_gconv, of_attention = gconv[part].to_dict(), attention[part].to_dict()
        assert {name for name in of_gconv if of_gconv[name] != of_attention[name]} == fields
    table = grid.table("quickstart")
    for row, _, points in grid.runs(table, "small"):
        chosen = {
            json.dumps(r["swept"])
            for r in grid.read_records("quickstart", "small")
            if r["row"] == row and r["selected"]
        }
        (run,) = (point[0] for point in points if json.dumps(point[0].swept) in chosen)
        assert grid.config_of(run).to_dict() == {"gconv": gconv, "attention": attention}[row].to_dict()


def test_the_quickstarts_parameters_are_equal_within_5_percent():
    import jax
    from flax import nnx

    from configs import listops
    from gconv.data.dataset import Spec
    from gconv.training.step import build_model

    counts = []
    for mixer in ("gconv", "attention"):
        config = listops.get_config(f"{mixer},quickstart")
        model = nnx.eval_shape(lambda config=config: build_model(config.model, Spec(64, 10, 16), jax.random.key(0)))
        counts.append(sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))))
    assert max(counts) / min(counts) < 1.05
