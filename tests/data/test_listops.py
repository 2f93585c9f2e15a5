import itertools
import random

import numpy as np
import pytest

from gconv.data.generators import listops
from gconv.data.generators.listops import Grammar, generate, to_text, to_tokens


def evaluate(text):
    """A second evaluator, from the text alone: a stack machine with textbook definitions."""
    stack = []
    for word in text.split():
        if word != "]":
            stack.append(word if word.startswith("[") else int(word))
            continue
        arguments = []
        while not isinstance(stack[-1], str):
            arguments.append(stack.pop())
        operator = stack.pop()
        assert 2 <= len(arguments) <= 10
        if operator == "[MED":
            stack.append(int(np.median(arguments)))
        else:
            stack.append({"[MIN": min, "[MAX": max, "[SM": lambda a: sum(a) % 10}[operator](arguments))
    assert len(stack) == 1
    return stack[0]


def depth(text):
    level = deepest = 0
    for word in text.split():
        level += word.startswith("[") - (word == "]")
        deepest = max(deepest, level)
    return deepest


def take(grammar, count, seed=0, workers=1):
    return list(itertools.islice(generate(grammar, seed, workers), count))


@pytest.fixture(scope="module")
def lra():
    return take(Grammar(), 1000)


def test_every_label_is_what_a_second_evaluator_finds(lra):
    for example in lra + take(Grammar(3, 32, 4, 4), 500):
        assert evaluate(to_text(example.tokens)) == example.value


@pytest.mark.parametrize(
    "expression, value",
    [
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),  # the example of the LRA paper
        ("[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]", 5),  # the README of LRA
        ("[MED 1 2 ]", 1),  # int(1.5)
        ("[MED 3 4 8 9 ]", 6),
        ("[SM 9 9 9 ]", 7),
        ("[MIN [SM 5 5 ] 3 ]", 0),
    ],
)
def test_expressions_checked_by_hand(expression, value):
    assert evaluate(expression) == value
    operator, *rest = expression.split()
    if all(word.isdigit() for word in rest[:-1]):
        assert listops.apply(operator, [int(word) for word in rest[:-1]]) == value


def test_the_grammar_is_lras(lra):
    lengths = np.array([len(example.tokens) for example in lra])
    assert lengths.min() > 500 and lengths.max() < 2000
    assert max(depth(to_text(example.tokens)) for example in lra) == 9  # the root counts as depth 1 of 10
    # Reference over 4,000 trees of LRA's own generator, within 4 standard errors of 1,000 trees.
    assert lengths.mean() == pytest.approx(1038, abs=4 * 396 / 1000**0.5)
    assert lengths.std() == pytest.approx(396, rel=0.1)
    labels = np.bincount([example.value for example in lra], minlength=10) / len(lra)
    reference = np.array([17.5, 8.4, 8.1, 8.4, 9.4, 9.1, 7.6, 6.8, 8.5, 16.3]) / 100
    np.testing.assert_allclose(labels, reference, atol=4 * 0.012)
    tokens = np.bincount(np.frombuffer(b"".join(e.tokens for e in lra), np.uint8), minlength=16)
    np.testing.assert_allclose(tokens[1:5] / tokens.sum(), 0.0355, atol=0.001)
    np.testing.assert_allclose(tokens[5] / tokens.sum(), 0.142, atol=0.002)
    np.testing.assert_allclose(tokens[6:] / tokens.sum(), 0.0715, atol=0.001)


def test_trees_are_unique_and_the_same_for_any_number_of_workers():
    grammar = Grammar(3, 9, 3, 3)
    alone, together = take(grammar, 900, seed=5), take(grammar, 900, seed=5, workers=2)
    assert alone == together
    assert len({example.tokens for example in alone}) == 900
    assert alone != take(grammar, 900, seed=6)


def test_token_ids_never_change():
    expression = "[MIN 0 1 2 3 [MAX 4 5 6 ] [MED 7 8 ] [SM 9 9 ] ]"
    assert list(to_tokens(expression)) == [1, 6, 7, 8, 9, 2, 10, 11, 12, 5, 3, 13, 14, 5, 4, 15, 15, 5, 5]
    assert to_text(to_tokens(expression)) == expression


def test_lras_parentheses_are_no_tokens_and_unknown_words_are_named():
    assert to_tokens("( ( ( [MAX 2 ) 9 ) ] )") == to_tokens("[MAX 2 9 ]")
    with pytest.raises(ValueError, match=r"'\[AVG' is no ListOps token"):
        to_tokens("[AVG 1 2 ]")


def test_no_tree_is_cut_at_the_maximum_length():
    rng = random.Random(0)
    kept = [tree for tree in (listops.draw(rng, Grammar(3, 20)) for _ in range(3000)) if tree]
    assert len(kept) > 100 and all(evaluate(to_text(tree.tokens)) == tree.value for tree in kept)
