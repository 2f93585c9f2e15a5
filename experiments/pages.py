"""Puts the tables of the records into the pages: python -m experiments.pages

Between `<!-- PATH -->` and `<!-- end -->` in README.md and docs/*.md stands the file experiments/records/PATH.
"""

import re
from pathlib import Path

from experiments.grid import RECORDS
from gconv import cli
from gconv.errors import UserError

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- ([\w/.-]+\.md) -->\n.*?<!-- end -->\n", re.S)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str, page: Path) -> str:
    """The text of a page with every block as its record has it. UserError for a record that isn't there."""

    def block(found: re.Match) -> str:
        path = RECORDS / found[1]
        if not path.exists():
            raise UserError(f"{page}: {path} is missing")
        return f"<!-- {found[1]} -->\n{path.read_text().rstrip()}\n<!-- end -->\n"

    return BLOCK.sub(block, text)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}")
    for page in pages():
        old = page.read_text()
        new = filled(old, page)
        if new != old:
            page.write_text(new)
            print(f"{page}: tables renewed")


if __name__ == "__main__":
    cli.run(main)
