"""Length transfer: what is asked of a model beyond its training, and how it is shown."""

import numpy as np
import pytest

import gconv
from configs import listops as config_of
from experiments import transfer
from gconv.training import loop
from gconv.training.metrics import read_json


def test_longer_expressions_are_of_their_range_and_all_different():
    found = transfer.expressions(32, 48, 40)
    assert len({example.tokens for example in found}) == 40
    lengths = [len(example.tokens) for example in found]
    assert min(lengths) >= 33 and max(lengths) <= 48 and max(lengths) > 40


def test_a_run_is_measured_at_each_length(tmp_path, monkeypatch):
    """Two models: one is asked at its own length too, and scores there what the run did."""
    monkeypatch.setattr(transfer, "EXAMPLES", 30)
    monkeypatch.setattr(transfer, "LENGTHS", (1, 1.5))
    runs = []
    for row, mixer in (("free (LongConv)", "gconv"), ("attention, rotary", "attention")):
        config = config_of.get_config(f"{mixer},smoke")
        config.data_dir, config.steps, config.eval_every, config.checkpoint_every = str(tmp_path), 4, 4, 4
        runs.append(tmp_path / transfer.slug(row) / "seed0")
        loop.train_and_evaluate(config, str(runs[-1]))
    transfer.measure(runs, tmp_path)
    record = read_json(tmp_path / "transfer.json")
    answers = []
    for run, model in zip(runs, record["models"], strict=True):
        assert model["accuracy"][0] == read_json(run / "result.json")["test_accuracy"]
        examples = transfer.expressions(32, 48, 30)
        found = gconv.load(run, length=48).predict([example.tokens for example in examples]).argmax(axis=1)
        answers = [example.value for example in examples]
        assert model["accuracy"][1] == np.mean(found == answers)
    assert record["guessing"][1] == pytest.approx(np.bincount(answers).max() / 30)
    lines = (tmp_path / "transfer.md").read_text().splitlines()
    first = 100 * record["models"][0]["accuracy"][1]
    assert lines[0] == "| kernel | up to 32 tokens (%) | 33 to 48 tokens (%) |"
    assert lines[2].startswith("| free (LongConv) | ") and lines[2].endswith(f"| {first:.1f} |")
    assert lines[3] == "| multi-scale (SGConv) | not run |  |" and (tmp_path / "transfer.png").stat().st_size > 5_000
