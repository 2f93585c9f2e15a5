"""ListOps as Long Range Arena defines it (Nangia & Bowman 2018; Tay et al. 2021): random trees and their values.

An expression is written as its operators, digits and closing brackets, `[MAX 4 [MIN 2 3 ] 7 ]`, and its length is
the number of these tokens. The parentheses of LRA's text files bracket the same tree and are not tokens.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

from gconv.data.generators.workers import map_in_order

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
END = "]"
DIGITS = tuple("0123456789")
# Token ids are positions in this tuple. It is written out, not collected from data, so ids never depend on a run.
VOCABULARY = ("<pad>", *OPERATORS, END, *DIGITS)
_ID = {token: i for i, token in enumerate(VOCABULARY)}
_END_ID, _ZERO_ID = _ID[END], _ID["0"]

LEAF_PROBABILITY = 0.75  # below the maximum depth: a node is a digit if a uniform draw exceeds 0.25
CHUNK = 250  # trees that one seed of a worker makes


class Grammar(NamedTuple):
    """What is drawn. The root stands at depth 1; operators have 2..max_arguments arguments.

    A tree is kept if min_length < its number of tokens < max_length.
    """

    min_length: int = 500
    max_length: int = 2000
    max_depth: int = 10
    max_arguments: int = 10


class Example(NamedTuple):
    tokens: bytes  # one token id a byte
    value: int


def apply(operator: str, values: list[int]) -> int:
    """The value 0..9 of an operator: minimum, maximum, truncated median, or sum modulo 10."""
    if operator == "[MIN":
        return min(values)
    if operator == "[MAX":
        return max(values)
    if operator == "[MED":
        values, middle = sorted(values), len(values) // 2
        return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) // 2
    return sum(values) % 10


class _TooLong(Exception):
    pass


def draw(rng: random.Random, grammar: Grammar) -> Example | None:
    """Draws one tree; None if its length is outside the grammar's range."""
    tokens = bytearray()
    try:
        value = _grow(rng, grammar, 1, tokens)
    except _TooLong:
        return None
    return Example(bytes(tokens), value) if len(tokens) > grammar.min_length else None


def _grow(rng: random.Random, grammar: Grammar, depth: int, tokens: bytearray) -> int:
    if len(tokens) >= grammar.max_length:  # already too long: the rest of the tree would be thrown away with it
        raise _TooLong
    if depth >= grammar.max_depth or rng.random() < LEAF_PROBABILITY:
        digit = int(rng.random() * 10)
        tokens.append(_ZERO_ID + digit)
        return digit
    arguments = 2 + int(rng.random() * (grammar.max_arguments - 1))
    operator = int(rng.random() * 4)
    tokens.append(1 + operator)
    values = [_grow(rng, grammar, depth + 1, tokens) for _ in range(arguments)]
    tokens.append(_END_ID)
    if len(tokens) >= grammar.max_length:
        raise _TooLong
    return apply(OPERATORS[operator], values)


def _chunk(grammar: Grammar, seed: int, index: int) -> list[Example]:
    rng = random.Random(f"listops {seed} {index}")
    kept: list[Example] = []
    while len(kept) < CHUNK:
        example = draw(rng, grammar)
        if example is not None:
            kept.append(example)
    return kept


def generate(grammar: Grammar, seed: int, workers: int = 1) -> Iterator[Example]:
    """Yields different trees without end; the same ones in the same order for any number of worker processes."""
    seen: set[bytes] = set()
    tasks = ((grammar, seed, index) for index in itertools.count())
    chunks = itertools.starmap(_chunk, tasks) if workers == 1 else map_in_order(_chunk, tasks, workers)
    yield from _unique(chunks, seen)


def _unique(chunks: Iterator[list[Example]], seen: set[bytes]) -> Iterator[Example]:
    for chunk in chunks:
        for example in chunk:
            if example.tokens not in seen:
                seen.add(example.tokens)
                yield example


def to_text(tokens: bytes) -> str:
    """The expression in words, as `[MAX 4 7 ]`."""
    return " ".join(VOCABULARY[token] for token in tokens)


def to_tokens(expression: str) -> bytes:
    """The token ids of an expression; LRA's parentheses are dropped. ValueError names an unknown token."""
    words = expression.replace("(", " ").replace(")", " ").split()
    for word in words:
        if word not in _ID or word == VOCABULARY[0]:
            raise ValueError(f"{word!r} is no ListOps token: expected one of {' '.join(VOCABULARY[1:])}")
    return bytes(_ID[word] for word in words)
