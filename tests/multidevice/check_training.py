"""The training step over a mesh: the losses of one device, and no gathered activations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from configs import listops
from gconv.data.dataset import Spec, Split
from gconv.data.pipeline import TrainBatches
from gconv.errors import UserError
from gconv.models.dropout import drop_out
from gconv.training import loop, sharding
from gconv.training.checkpoint import digest
from gconv.training.optim import make_optimizer
from gconv.training.step import initialize, make_train_step
from tests.multidevice.hlo import collectives, gathered_shapes

SPEC = Spec(length=32, classes=10, vocabulary=16)
STEPS = 5
BATCH = 176  # neither it nor a part of it divides a parameter's axis: what is gathered is told by its shape


def mesh_of(data, sequence, model):
    sizes = (data, sequence, model)
    devices = jax.devices()[: data * sequence * model]
    return jax.make_mesh(sizes, sharding.MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def config(mixer, norm="layer"):
    made = listops.get_config(f"{mixer},smoke")
    made.model.norm = norm
    made.model.layers = 1  # each further one asks for the same again
    made.model.mlp_ratio = 2.0
    return made


@functools.cache
def run(mixer, sizes, fsdp=False, accumulate=1, norm="layer", features=32):
    """The losses of the first steps, the compiled step, and the shapes of the parameters."""
    mesh = mesh_of(*sizes)
    made = config(mixer, norm)
    made.model.features = features
    rng = np.random.default_rng(0)
    split = Split(
        rng.integers(0, 16, (64, 32)).astype(np.uint8),
        rng.integers(1, 33, 64).astype(np.int32),
        rng.integers(0, 10, 64).astype(np.int32),
    )
    optimizer = make_optimizer(made.optim, made.steps)
    graphdef, state = initialize(made.model, SPEC, optimizer, mesh, jax.random.key(0), fsdp)
    shapes = {leaf.shape for leaf in jax.tree.leaves(state.params)}
    batches = TrainBatches(split, BATCH, seed=0)
    made.optim.accumulate = accumulate
    step = make_train_step(graphdef, optimizer, made.optim, state, mesh)
    compiled = step.lower(state, sharding.put_batch(mesh, batches[0]), jax.random.key(1)).compile()
    losses = []
    for i in range(STEPS):
        state, metrics = compiled(state, sharding.put_batch(mesh, batches[i]), jax.random.key(i))
        losses.append(float(metrics["loss"]))
    return np.array(losses), compiled, shapes


# (data, sequence, model), fsdp, accumulate: all-gathers and all-to-alls in a step of a block of gconv. Its convolution
# exchanges positions for channels and back, and its gradient again: 4. What is gathered are the 3 dense layers of the
# block stored split over `model`, the kernel's gradient over `sequence`, and, of 14 parameters, with fsdp all.
GCONV = {
    ((8, 1, 1), False, 1): (0, 0),
    ((8, 1, 1), False, 2): (0, 0),
    ((4, 2, 1), False, 1): (1, 4),
    ((4, 1, 2), False, 1): (3, 4),
    ((2, 2, 2), False, 1): (4, 4),
    ((8, 1, 1), True, 1): (14, 0),
    ((2, 2, 2), True, 1): (18, 4),
}


@pytest.mark.parametrize("spec", [P("data"), P(None, "data"), P(None, None, "data")])
def test_devices_draw_their_own_part_of_dropout(spec):
    x = jnp.ones((8, 16, 64))
    split = NamedSharding(mesh_of(8, 1, 1), spec)
    of_split = (
        jax.jit(lambda x, key: drop_out(x, 0.25, key)).lower(jax.device_put(x, split), jax.random.key(0)).compile()
    )
    assert not collectives(of_split)
    expected = drop_out(x, 0.25, jax.random.key(0))
    np.testing.assert_array_equal(of_split(jax.device_put(x, split), jax.random.key(0)), expected)


@pytest.mark.parametrize(
    "setting, features",
    [*((setting, 32) for setting in GCONV), (((2, 2, 2), False, 1), 64)],  # 32 tokens are fewer than 64 features
    ids=str,
)
def test_a_step_of_gconv_gathers_no_activations(setting, features):
    _, compiled, parameters = run("gconv", *setting, features=features)
    counted = collectives(compiled)
    assert (counted["all-gather"], counted["all-to-all"]) == GCONV[setting]
    assert counted["all-reduce"] > 0 and counted["collective-permute"] == counted["reduce-scatter"] == 0
    for shape in gathered_shapes(compiled):  # parameters and their gradients, or parts of them
        assert any(is_part(shape, parameter) or is_part(shape[::-1], parameter) for parameter in parameters), shape


def is_part(shape, whole):
    return len(shape) == len(whole) and all(size % part == 0 for part, size in zip(shape, whole, strict=True))


@pytest.mark.parametrize(
    "mixer, setting",
    [
        *(("gconv", setting) for setting in GCONV),
        ("attention", ((8, 1, 1), False)),
        ("attention", ((4, 2, 1), False)),
        ("attention", ((2, 2, 2), True)),
    ],
    ids=str,
)
def test_losses_equal_those_of_one_device(mixer, setting):
    _, _, *accumulate = setting
    alone, together = run(mixer, (1, 1, 1), False, *accumulate)[0], run(mixer, *setting)[0]
    assert np.ptp(alone) > 1e-3
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("sizes, fsdp", [((8, 1, 1), False), ((4, 2, 1), False), ((2, 2, 2), True)], ids=str)
def test_batch_norm_is_over_all_devices(sizes, fsdp):
    alone, together = (run("gconv", *setting, 1, "batch")[0] for setting in (((1, 1, 1), False), (sizes, fsdp)))
    assert np.ptp(alone) > 1e-3
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_data_parallel_attention_gathers_nothing():
    counted = collectives(run("attention", (8, 1, 1), False)[1])
    assert counted["all-gather"] == counted["all-to-all"] == 0 and counted["all-reduce"] > 0


def test_a_step_of_attention_exchanges_positions_for_heads():
    """q, k, v and the result, and their gradients: 8. Only the mask is gathered."""
    _, compiled, parameters = run("attention", (4, 2, 1), False)
    counted = collectives(compiled)
    assert counted["all-to-all"] == 8 and counted["collective-permute"] == counted["reduce-scatter"] == 0
    mask = (BATCH // 4, SPEC.length)
    for shape in gathered_shapes(compiled) - {mask}:
        assert any(is_part(shape, parameter) or is_part(shape[::-1], parameter) for parameter in parameters), shape


def test_kept_data_gives_the_same_batches():
    rng = np.random.default_rng(0)
    inputs, lengths = rng.integers(0, 16, (40, 32)).astype(np.uint8), rng.integers(1, 33, 40).astype(np.int32)
    batches, mesh = TrainBatches(Split(inputs, lengths, lengths % 10), 16, seed=0), mesh_of(4, 2, 1)
    kept, sent = sharding.feed(mesh, batches, kept=True), sharding.feed(mesh, batches, kept=False)
    for step in (0, 7):
        for a, b in zip(kept(step), sent(step), strict=True):
            assert a.sharding.is_equivalent_to(b.sharding, a.ndim) and a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_a_step_updates_its_state_in_place():
    memory = run("gconv", (8, 1, 1), True)[1].memory_analysis()
    assert memory.alias_size_in_bytes > 0.9 * memory.output_size_in_bytes


def test_parameters_are_split_as_the_table_says():
    made = config("gconv")
    optimizer = make_optimizer(made.optim, made.steps)
    _, state = initialize(made.model, SPEC, optimizer, mesh_of(4, 1, 2), jax.random.key(0))
    block = state.params["blocks"][0]
    taps = block["mixer"]["conv"]["kernel"]["taps"][...]
    assert taps.sharding.spec == jax.sharding.PartitionSpec("model", None)
    assert block["mlp"]["up"]["kernel"][...].sharding.spec == jax.sharding.PartitionSpec(None, "model")
    assert block["mixer_norm"]["scale"][...].sharding.is_fully_replicated
    moments = jax.tree_util.tree_leaves_with_path(state.opt_state)
    of_taps = [leaf for path, leaf in moments if "taps" in jax.tree_util.keystr(path)]
    assert len(of_taps) == 2 and all(leaf.sharding == taps.sharding for leaf in of_taps)


def test_with_fsdp_every_device_stores_its_part():
    made = config("gconv")
    optimizer = make_optimizer(made.optim, made.steps)
    whole, parts = (
        initialize(made.model, SPEC, optimizer, mesh_of(*sizes), jax.random.key(0), fsdp)[1]
        for sizes, fsdp in (((1, 1, 1), False), ((4, 1, 2), True))
    )
    stored = [sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(s)) for s in (whole, parts)]
    assert stored[1] < 0.15 * stored[0]  # an eighth, and a few that don't divide
    assert parts.params["blocks"][0]["mixer"]["conv"]["kernel"]["taps"][...].addressable_shards[0].data.shape == (4, 63)


def test_initial_parameters_do_not_depend_on_the_mesh():
    made = config("gconv")
    optimizer = make_optimizer(made.optim, made.steps)
    states = [
        initialize(made.model, SPEC, optimizer, mesh_of(*m), jax.random.key(0))[1]
        for m in ((1, 1, 1), (8, 1, 1), (2, 2, 2))
    ]
    assert len({digest(state.params) for state in states}) == 1


def test_what_does_not_divide_is_named():
    made = config("gconv")
    made.model.features = 33
    with pytest.raises(UserError, match=r"config.mesh.model=2 doesn't divide a parameter's 33 channels"):
        initialize(made.model, SPEC, make_optimizer(made.optim, 10), mesh_of(4, 1, 2), jax.random.key(0))
    made.mesh.model = 3
    with pytest.raises(UserError, match=r"config.mesh: data=-1, sequence=1, model=3 doesn't fit 8 devices"):
        sharding.make_mesh(made.mesh)
    with pytest.raises(UserError, match=r"config.batch_size \(12\) must divide by the data axis of the mesh \(8\)"):
        made.batch_size = 12
        loop._check_mesh(made, mesh_of(8, 1, 1))
    made.batch_size, made.data.length = 16, 30
    with pytest.raises(UserError, match=r"config.data.length \(30\) must divide by .* sequence and model \(4\)"):
        loop._check_mesh(made, mesh_of(2, 2, 2))


class Interrupted(Exception):
    pass


def test_a_run_resumes_on_another_mesh(tmp_path):
    """8 devices go on from the checkpoint of a run on 4 × 2: same batches, same losses within rounding."""
    results = []
    for name, first in (("straight", None), ("moved", 2)):
        made = config("gconv")
        made.data_dir = str(tmp_path)
        made.steps, made.log_every, made.eval_every, made.checkpoint_every = 10, 1, 5, 5
        made.model.layers, made.model.features = 1, 8
        if first:
            made.mesh.model = first
            real = loop._collect

            def stop(metrics, step, *rest, real=real):
                if step == 7:
                    raise Interrupted
                real(metrics, step, *rest)

            loop._collect = stop
            with pytest.raises(Interrupted):
                loop.train_and_evaluate(made, str(tmp_path / name))
            loop._collect = real
            made.mesh.model = 1
        loop.train_and_evaluate(made, str(tmp_path / name))
        records = loop_records(tmp_path / name)
        results.append([record["loss"] for record in records if record["split"] == "train"])
    np.testing.assert_allclose(*results, atol=1e-4)


def loop_records(path):
    from gconv.training.metrics import read_jsonl

    return read_jsonl(path / "metrics.jsonl")
