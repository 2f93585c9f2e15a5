import numpy as np

from gconv.data.dataset import Split
from gconv.data.pipeline import TrainBatches, evaluation_batches


def split(examples=23):
    ids = np.arange(examples)
    return Split(np.repeat(ids[:, None], 4, 1).astype(np.uint8), ids.astype(np.int32) % 4 + 1, ids.astype(np.int32))


def test_every_epoch_holds_every_example_once_in_a_new_order():
    batches = TrainBatches(split(), 5, seed=3)
    order = np.concatenate([batches[step].labels for step in range(23)]).reshape(5, 23)
    for epoch in order:
        assert sorted(epoch) == list(range(23))
    assert len({tuple(epoch) for epoch in order}) == 5


def test_seeds_side_by_side_share_no_order():
    """Grain shuffles epoch e by seed + e."""
    orders = [tuple(TrainBatches(split(), 23, seed)[epoch].labels) for seed in range(6) for epoch in range(6)]
    assert len(set(orders)) == 36


def test_a_batch_is_a_function_of_seed_and_step():
    first, again, other = (TrainBatches(split(), 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[1000].labels, again[1000].labels)
    assert any((first[step].labels != other[step].labels).any() for step in range(3))
    batch = first[7]
    np.testing.assert_array_equal(batch.inputs[:, 0], batch.labels)
    np.testing.assert_array_equal(batch.lengths, batch.labels % 4 + 1)
    assert batch.weights.dtype == np.float32 and batch.weights.all()


def test_processes_share_out_one_global_batch():
    whole = TrainBatches(split(), 6, seed=1)
    parts = [TrainBatches(split(), 6, 1, np.arange(2 * process, 2 * process + 2)) for process in range(3)]
    for step in range(9):
        together = np.concatenate([part[step].labels for part in parts])
        np.testing.assert_array_equal(together, whole[step].labels)


def test_evaluation_counts_every_example_once():
    for processes in (1, 2):
        mine = np.split(np.arange(10), processes)  # the rows of each
        rows = [batch for part in mine for batch in evaluation_batches(split(), 10, part)]
        assert {len(batch.labels) for batch in rows} == {10 // processes}
        real = np.concatenate([batch.labels[batch.weights > 0] for batch in rows])
        assert sorted(real) == list(range(23))
        assert sum(batch.weights.sum() for batch in rows) == 23


def test_a_batch_of_pairs_keeps_both_sequences():
    one = split()
    pairs = Split(np.stack([one.inputs, 255 - one.inputs], 1), np.stack([one.lengths, one.lengths + 1], 1), one.labels)
    batch = TrainBatches(pairs, 5, seed=3)[2]
    assert batch.inputs.shape == (5, 2, 4) and batch.lengths.shape == (5, 2)
    np.testing.assert_array_equal(batch.inputs[:, 0, 0], batch.labels)
    np.testing.assert_array_equal(batch.inputs[:, 1, 0], 255 - batch.labels)
    np.testing.assert_array_equal(batch.lengths[:, 1], batch.labels % 4 + 2)
    last = list(evaluation_batches(pairs, 10))[-1]
    assert last.inputs.shape == (10, 2, 4) and last.weights.sum() == 3
