"""The page of Long Range Arena: ours where there are records, the published figures, projected hours."""

import jax
import pytest

from configs import image, listops, probes, text
from experiments import grid, lra
from gconv.training.match import parameters
from gconv.training.step import build_model, spec_of


def test_the_committed_pages_are_those_that_their_records_make():
    for name, content in lra.written().items():
        assert (grid.RECORDS / "lra" / name).read_text() == content


def test_a_result_stands_in_its_cell_and_the_others_say_not_run():
    def records(row, tasks):
        result = {"test_accuracy": 0.9, "train_seconds": 600.0, "device": "a GPU"}
        return [
            {
                "row": row,
                "column": task,
                "seed": seed,
                "swept": {},
                "selected": True,
                "state": "finished",
                "result": result,
            }
            for task in tasks
            for seed in range(3)
        ]

    ours, matched, modern = lra.results(records("gconv", ["Text"]) + records("attention, modern", lra.CONFIGS))[2:5]
    missing = ["not run"] * 4
    assert ours.split(" | ")[1:] == ["not run", "90.0 ± 0.0, 10 min", *missing, "–", "this repository, a GPU |"]
    assert matched.count("not run") == 6 and matched.endswith(" | – | this repository |")
    assert modern.split(" | ")[1:] == [*["90.0 ± 0.0, 10 min"] * 6, "90.00", "this repository, a GPU |"]


def test_the_published_averages_are_those_of_the_papers():
    rows = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[-2] for line in lra.results([])[2 + len(lra.TABLE.rows) :]
    }
    said = {"S5": "87.46", "Mega, moving average and attention": "88.21", "Megalodon, the best average found": "88.63"}
    said |= {"SGConv, a global convolution": "87.17", "Transformer": "–", "Transformer, re-run": "–"}
    said |= {"MRConv, the best pure convolution found": "88.2", "Transformer, rotary, a better recipe": "85.69"}
    assert rows == said


def test_the_docstring_of_a_task_says_the_published_scores_of_the_table():
    says = {"SGConv, a global convolution": "gconv,sgconv ", "S5": "ssm ", "Transformer": "transformer "}
    for row, words in says.items():
        for score, (task, module) in zip(lra.PUBLISHED[row][0], lra.CONFIGS.items(), strict=True):
            assert score is None or f"{words}{score:.2f} (" in " ".join(module.__doc__.split()), (row, task)
    for module in lra.CONFIGS.values():
        assert "own inputs 86.21 on average, Amos et al. 2023)" in " ".join(module.__doc__.split())


@pytest.mark.parametrize("mixer", ["gconv", "attention"])
def test_a_run_is_three_times_the_forward_passes_of_its_batches_and_once_those_of_its_evaluations(mixer):
    config = image.get_config(f"{mixer},small")
    flops = build_model(config.model, spec_of(config), jax.random.key(0)).flops(config.data.length)
    cost = lra.training(config)
    examples = 3 * config.steps * config.batch_size + 3 * 5_000 + 10_000  # it validates every 200 of 600 steps
    assert cost.products + cost.ffts == pytest.approx(examples * flops.fft)
    assert (cost.ffts > 0) == (mixer == "gconv")
    assert lra.training(config, evaluation=False).moved / cost.moved == pytest.approx(1 - 25_000 / examples)
    config.batch_size *= 2
    assert lra.training(config).moved / cost.moved == pytest.approx(1 + 3 * config.steps * 32 / examples)


def test_telling_a_text_again_costs_a_dense_layer_in_training_alone():
    config = text.get_config("attention,small")
    plain = lra.training(config)
    config.model.denoise = 0.3
    examples, width = 3 * config.steps * config.batch_size, config.model.features
    assert lra.training(config).products - plain.products == pytest.approx(examples * 2 * 256 * width * 256, rel=1e-6)


@pytest.mark.parametrize("mixer", ["gconv_plain", "gated", "matrix", "ssm"])
def test_what_another_mixer_moves_is_not_guessed(mixer):
    with pytest.raises(ValueError, match="nothing is known of what a"):
        lra.training(image.get_config(f"{mixer},small"))


def test_a_probe_is_validated_and_tested_on_as_many_as_it_holds_out():
    config = probes.get_config("gconv,mqar,small")
    flops = build_model(config.model, spec_of(config), jax.random.key(0)).flops(config.data.length)
    cost = lra.training(config)
    examples = 3 * config.steps * config.batch_size + 5 * 2_000  # it validates every 500 of 2,000 steps
    assert cost.products + cost.ffts == pytest.approx(examples * flops.fft)


def test_hours_follow_chips_and_the_slower_of_arithmetic_and_memory():
    cost = lra.training(text.get_config("gconv,small"))
    fast = lra.Device(bf16=1e30, fft=1e30, bandwidth=1e9, chips=1)
    hours = cost.moved / 1e9 / lra.REACHED / 3600
    assert lra.hours(cost, fast) == pytest.approx(hours)
    assert lra.hours(cost, fast._replace(chips=4)) == pytest.approx(hours / 4)
    slow = lra.Device(bf16=1e6, fft=2e6, bandwidth=1e30, chips=1)
    assert lra.hours(cost, slow) == pytest.approx((cost.products / 1e6 + cost.ffts / 2e6) / lra.REACHED / 3600)


def test_measured_times_stand_beside_what_is_projected_for_their_steps():
    measured = {"steps": 80_000, "seconds": 0.5}
    config = listops.get_config("gconv")
    ratio = 0.5 * 80_000 / 3600 / lra.hours(lra.training(config, evaluation=False), lra.H100)
    beside, _, estimated = lra._beside_projection({("gconv", "ListOps"): measured})
    assert beside.endswith(f": gconv {ratio:.1f} on ListOps.")
    minutes = 60 * ratio * lra.hours(lra.training(config), lra.DEVICES["one H200"])
    assert estimated.endswith(f": gconv {minutes:.0f} min on ListOps.")


def test_a_record_of_measured_steps_needs_no_note(monkeypatch):
    rows = [{"task": "ListOps", "model": "gconv", "steps": 80_000, "seconds": 0.009}]
    monkeypatch.setattr(lra, "read_json", lambda path: {"device": "a card", "rows": rows})
    *_, gconv, _, _, _, _, empty, ratios, _, _ = lra.measurements()
    assert (
        gconv.startswith("| gconv | 12 min | not run |") and empty == "" and ratios.startswith("Measured ÷ projected")
    )


def test_the_published_attention_on_image_is_as_small_as_the_answer_says():
    assert round(parameters(image.get_config("attention")) / 1e3) == 151
    assert round(parameters(image.get_config("gconv")) / 1e6, 1) == 9.5
