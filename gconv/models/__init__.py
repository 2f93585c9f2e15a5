"""Flax (NNX) modules: classifier ▸ block ▸ mixer ▸ kernel. They know arrays and sizes, no config and no data.

A module holds parameters only. Randomness comes with the call: `key=None` is evaluation, a key is training. Each
module's `flops(length)` is the cost of one sequence's forward pass (see `gconv.ops.cost`).
"""
