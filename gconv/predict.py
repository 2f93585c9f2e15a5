"""Prints what a trained model predicts: the classes and their probabilities, a line an example.

    python -m gconv.predict RUN FILE [FILE …]

RUN is a run directory. For Text, a FILE is one text; for ListOps, an expression a line, as `[MAX 4 [MIN 2 3 ] 7 ]`; for
the tasks of pictures, a square picture of the model's size; for the tasks of pairs, every two files are a pair.
/dev/stdin is a FILE too.
"""

from pathlib import Path
from typing import Any

from gconv import cli
from gconv.errors import UserError


def main(argv: list[str]) -> None:
    if len(argv) < 3:
        raise UserError("expected a run and files: python -m gconv.predict RUN FILE [FILE …]")
    import gconv

    run = gconv.load(argv[1])
    names, sequences = [], []
    for name, content in (found for path in argv[2:] for found in _contents(path, run.config.data.name)):
        try:
            sequences.append(run.tokenizer(content))
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        names.append(name)
    examples: list = sequences
    if run.model.pairs:
        if len(names) % 2:
            raise UserError(f"{run.config.data.name} compares two texts; got {len(names)} files")
        names = [f"{one}, {other}" for one, other in zip(names[::2], names[1::2], strict=True)]
        examples = list(zip(sequences[::2], sequences[1::2], strict=True))
    for name, probabilities in zip(names, run.predict(examples), strict=True):
        ranked = (-probabilities).argsort()
        print(f"{name}: " + "  ".join(f"{run.classes[i]} {100 * probabilities[i]:.1f}%" for i in ranked))


def _contents(path: str, task: str) -> list[tuple[str, Any]]:
    """What a file holds, an example each, with a name for it."""
    from gconv.data import tasks, tokenizers

    tokenizer = tasks.TASKS[task].tokenizer
    try:
        if tokenizer is tokenizers.text:
            return [(path, Path(path).read_bytes())]
        if tokenizer is tokenizers.expression:
            lines = enumerate(Path(path).read_text().splitlines(), 1)
            found = [(f"{path}:{number}", line) for number, line in lines if line.strip()]
            if not found:
                raise UserError(f"{path}: it is empty")
            return found
        with open(path, "rb"):
            return [(path, path)]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error


if __name__ == "__main__":
    cli.restart_with_fast_malloc()
    cli.run(main)
