import subprocess
import sys

import jax
import pytest
from flax import nnx

from configs import listops, pathx, probes, text
from gconv.errors import UserError
from gconv.training import match, timing
from gconv.training.step import build_model, spec_of

FIGURES = {
    "parameters": lambda made: match.parameters(made),
    "flops": lambda made: flops(made).fft,
    "flops_direct": lambda made: flops(made).direct,
}


def flops(made):
    model = nnx.eval_shape(lambda: build_model(made.model, spec_of(made), jax.random.key(0)))
    return model.flops(made.data.length)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("mixer", ["gconv", "fnet", "hybrid"])
def test_a_match_is_the_nearest_width(mixer, figure):
    of = FIGURES[figure]
    reference, made = of(listops.get_config("attention,small")), listops.get_config(f"{mixer},small,match={figure}")
    unit = 8 if mixer == "hybrid" else 2  # heads are four, and rotary ones even
    distance = abs(of(made) - reference)
    for step in (-unit, unit):
        other = listops.get_config(f"{mixer},small")
        other.model.features = made.model.features + step
        assert abs(of(other) - reference) >= distance
    assert distance < 0.3 * reference


def test_attention_is_matched_to_gconv():
    goal = match.parameters(text.get_config("gconv,small"))
    made = text.get_config("attention,small,match=parameters")
    wider = text.get_config("attention,small")
    assert wider.model.features == 32
    wider.model.features = made.model.features + 8
    assert abs(match.parameters(made) - goal) <= abs(match.parameters(wider) - goal) < 0.3 * goal


def test_four_matches_are_four_widths():
    made = {figure: text.get_config(f"gconv,small,match={figure}").model.features for figure in FIGURES}
    # At length 256 a free kernel weighs much and its FFT little.
    assert made["parameters"] < made["flops_direct"] < made["flops"]


def test_only_time_needs_a_device():
    made = "from configs import text; " + "; ".join(
        f"text.get_config('gconv,small,match={figure}')" for figure in FIGURES
    )
    started = (
        "import jax; jax.config.update('jax_num_cpu_devices', 3); assert jax.device_count() == 3"  # not yet before
    )
    subprocess.run([sys.executable, "-c", f"{made}; {started}"], check=True)


def test_a_match_in_time_takes_the_width_of_the_same_time_and_times_both_in_turn(monkeypatch):
    turns = []

    def compiled_step(made, batch_size):
        """A clock that runs ever slower, as on a machine that gets busier."""

        def run():
            turns.append(made.mixer)
            clock[0] += made.model.features * (2 if made.mixer == "gconv" else 3) * 1.01 ** len(turns)

        return run, {}

    clock = [0.0]
    monkeypatch.setattr(match, "compiled_step", compiled_step)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert listops.get_config("gconv,small,match=time").model.features == 48
    assert turns[4:8] == ["gconv", "attention"] * 2  # after two turns each to warm up


def test_a_figure_out_of_reach_is_named(monkeypatch):
    monkeypatch.setitem(
        match.FIGURES, "parameters", lambda made: 10**9 if made.mixer == "attention" else made.model.features
    )
    with pytest.raises(UserError, match="no width of fnet has the parameters of attention"):
        listops.get_config("fnet,small,match=parameters")


def test_a_match_that_is_none_is_named(monkeypatch):
    monkeypatch.setitem(
        match.FIGURES, "parameters", lambda made: 100 if made.mixer == "attention" else 140 + made.model.features
    )
    with pytest.raises(UserError, match=r"fnet has at best 1\.42 times the parameters of attention, at width 2"):
        listops.get_config("fnet,small,match=parameters")


def test_a_recipe_for_convolutions_can_be_matched_and_attention_cannot_have_it():
    made = listops.get_config("gconv,sgconv,match=parameters")
    assert made.model.mixer_options.kernel.endswith("MultiScaleKernel") and made.model.features % 8 == 0
    with pytest.raises(ValueError, match="sgconv is a recipe for convolutions; attention has no kernel"):
        listops.get_config("attention,sgconv")


def test_a_smoke_run_takes_each_side_of_progressive_resolution():
    for side, length in (("side32", 64), ("side64", 256), ("side128", 1024)):
        made = pathx.get_config(f"gconv,multi_scale,{side},smoke")
        options = made.model.mixer_options
        assert made.data.length == length and made.data.length * made.data.pool**2 == 1024
        assert options.kernel_length == 64 and options.stretch == (side != "side32")
    assert "kernel_length" not in pathx.get_config("attention,side64,smoke").model.mixer_options
    assert pathx.get_config("gconv,smoke").data.length == 1024


def test_the_order_of_names_does_not_matter_and_none_is_dropped():
    assert pathx.get_config("gconv,small,side32").to_json() == pathx.get_config("gconv,side32,small").to_json()
    assert listops.get_config("gconv,small,sgconv").steps == listops.get_config("gconv,small").steps
    assert probes.get_config("gconv,small,mqar").data.length == 32
    for names, message in (
        ("gconv,sgconv,diagonal", "sgconv and diagonal exclude each other; name one"),
        ("gconv,small,smoke", "small and smoke exclude each other; name one"),
        ("gconv,match=flops,match=parameters", "match=flops and match=parameters exclude each other; name one"),
        ("gconv,layers=2,match=flops", "match=flops and layers=2 each set the width; name one"),
        ("gconv,layers=2,layers=4", "layers=2 and layers=4 exclude each other; name one"),
    ):
        with pytest.raises(ValueError, match=message):
            listops.get_config(names)
    with pytest.raises(ValueError, match="mqar and recall exclude each other; name one"):
        probes.get_config("gconv,mqar,recall")
    with pytest.raises(ValueError, match="side32 and side64 exclude each other; name one"):
        pathx.get_config("gconv,multi_scale,side32,side64")
    wide = pathx.get_config("attention,side64,multi_scale,match=parameters")
    ours = pathx.get_config("gconv,side64,multi_scale")
    assert abs(match.parameters(wide) / match.parameters(ours) - 1) < 0.1 and "kernel" not in wide.model.mixer_options
    with pytest.raises(ValueError, match="attention has no kernel to be multi_scale"):
        pathx.get_config("attention,side64,multi_scale")
    assert listops.get_config("gconv,free").to_json() == listops.get_config("gconv").to_json()
    with pytest.raises(ValueError, match="there is no gconv to match: side64: a FreeKernel has the taps of one length"):
        pathx.get_config("attention,side64,match=parameters")


def test_steps_on_random_data_are_timed():
    reference = listops.get_config("attention,smoke")
    assert 0 < match.share_of_time(reference)(listops.get_config("gconv,smoke")) < 100
