"""Counting collectives in compiled programs."""

import re
from collections import Counter


def collectives(compiled):
    """How often each kind of collective stands in a compiled program."""
    found = re.findall(
        r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", compiled.as_text()
    )
    return Counter(found)


def gathered_shapes(compiled):
    """The shapes that all-gathers of a compiled program yield."""
    gathers = re.findall(r"= (.*?) all-gather(?:-start)?\(", compiled.as_text())
    shapes = [re.findall(r"\[([\d,]*)\]", result)[-1] for result in gathers]  # of an operand and a result, the result
    return {tuple(int(size) for size in shape.split(",") if size) for shape in shapes}
