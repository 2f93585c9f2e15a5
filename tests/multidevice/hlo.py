"""Counting collectives in compiled programs."""

import re
from collections import Counter


def collectives(compiled):
    """How often each kind of collective stands in a compiled program."""
    found = re.findall(
        r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", compiled.as_text()
    )
    return Counter(found)
