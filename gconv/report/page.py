"""Runs as one HTML page that needs no other file, no script and no network."""

import html

from gconv.report import chart
from gconv.report.runs import UNFINISHED, Run, Table, duration, times

# Two palettes of eight, each of enough contrast on its background (after Okabe & Ito 2008).
STYLE = """
:root { color-scheme: light dark; --back: #fff; --fore: #1c1e21; --soft: #5d636b; --edge: #d9dce0; --grid: #e8eaed;
  --c0: #0067a9; --c1: #c2500a; --c2: #00785a; --c3: #a8457e; --c4: #7a5a00; --c5: #2b7fb8; --c6: #444; --c7: #b3261e }
@media (prefers-color-scheme: dark) { :root { --back: #15171a; --fore: #e6e8eb; --soft: #a0a7b0; --edge: #363b42;
  --grid: #292d33; --c0: #56b4e9; --c1: #ff9b52; --c2: #35c69b; --c3: #e08ec0; --c4: #e3c242; --c5: #8ab4f8;
  --c6: #c4c8ce; --c7: #ff8a80 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem; max-width: 90rem; background: var(--back); color: var(--fore);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
h3 { font-size: .9rem; margin: 0 0 .25rem; font-weight: 600 }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 60rem }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .75rem 0 }
.legend svg { width: 26px; height: 10px; margin-right: .4rem }
.charts { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
figure { margin: 0; min-width: 0 } figure svg { display: block; width: 100%; height: auto }
.grid { stroke: var(--grid) } .level { stroke: var(--soft); stroke-dasharray: 5 4 }
.tick { fill: var(--soft); font-size: 11px }
.s { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round } circle.s { fill: var(--c) }
.dashed { stroke-dasharray: 6 3 }
.wide { overflow-x: auto; border: 1px solid var(--edge); border-radius: 6px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .4rem .75rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--edge) }
thead th { border-top: 0; color: var(--soft); font-weight: 600 }
th:first-child { text-align: left } tbody th { font-weight: 600 }
.fields th, .fields td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem }
.unfinished { color: var(--c1); font-weight: 600 }
.bar { display: flex; height: .9rem; margin: .15rem 0 .75rem; background: var(--grid); border-radius: 3px;
  overflow: hidden } .bar span { background: var(--c) } .none { font-style: italic }
.swatch { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; background: var(--c); margin: 0 .3rem
  0 .8rem; vertical-align: -1px } .swatch:first-child { margin-left: 0 }
@media (max-width: 30rem) { body { padding: 1rem .75rem } th, td { padding: .35rem .5rem }
  tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 8.5rem } }
""" + "".join(f".s{i} {{ --c: var(--c{i}) }}\n" for i in range(chart.COLOURS))

CURVES = (  # title, split, field, factor
    ("Training loss (nats)", "train", "loss", 1),
    ("Validation accuracy (%)", "validation", "accuracy", 100),
    ("Validation loss (nats)", "validation", "loss", 1),
    ("Norm of the gradient", "train", "grad_norm", 1),
    ("Learning rate", "train", "lr", 1),
)


def draw(runs: list[Run], tables: list[Table]) -> str:
    """The page of some runs and of their tables."""
    results, *others = tables
    tasks = ", ".join(dict.fromkeys(run.data["name"] for run in runs))
    title = f"{tasks}: {', '.join(run.name for run in runs)}"
    legend = "".join(
        f'<li><svg viewBox="0 0 26 10"><line class="{_style(place)}" x1="0" y1="5" x2="26" y2="5"/></svg>'
        f"{html.escape(run.name)}{'' if run.result else ' (unfinished)'}</li>"
        for place, run in enumerate(runs)
    )
    sources = "".join(
        f"<p>{html.escape(source)}</p>"
        for source in dict.fromkeys(f"{run.data['name']}, {run.data['source']}" for run in runs)
    )
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f"<h1>{html.escape(tasks)}</h1>\n{sources}",
            _table(results),
            f'<h2>Curves</h2>\n<ul class="legend">{legend}</ul>\n<div class="charts">',
            *_curves(runs),
            "</div>",
            _time(runs),
            *(_table(table) for table in others),
            "</body>\n</html>\n",
        ]
    )


def _curves(runs: list[Run]) -> list[str]:
    chances = {run.result["chance"] for run in runs if run.result}
    figures = []
    for title, split, field, factor in CURVES:
        lines = [
            chart.Line(run.name, [(r["step"], factor * r[field]) for r in run.of(split) if field in r]) for run in runs
        ]
        guessing = 100 * min(chances) if field == "accuracy" and len(chances) == 1 else None
        shown = title + (", guessing dashed" if guessing is not None else "")
        figures.append(_figure(shown, chart.draw(lines, title, guessing)))
    speeds = [chart.Line(run.name, run.speeds) for run in runs]
    return [*figures, _figure("Examples a second", chart.draw(speeds, "Examples a second"))]


def _figure(title: str, drawing: str) -> str:
    return f"<figure><h3>{html.escape(title)}</h3>\n{drawing}</figure>"


def _time(runs: list[Run]) -> str:
    """A bar for each run, of its own length: the shares of training, evaluation and checkpoints."""
    kinds = {"training": "s5", "evaluation": "s4", "checkpoints": "s3"}
    key = "".join(f'<span class="swatch {colour}"></span>{kind}' for kind, colour in kinds.items())
    parts = [f"<h2>Where the time went</h2>\n<p>{key}</p>"]
    for run in runs:
        spent = times(run)
        if not run.pauses or not sum(spent):
            parts.append(f'<h3>{html.escape(run.name)}</h3>\n<p class="none">not recorded</p>')
            continue
        told = ", ".join(f"{kind} {duration(seconds)}" for kind, seconds in zip(kinds, spent, strict=True))
        bar = "".join(
            f'<span class="{colour}" style="width:{100 * seconds / sum(spent):.2f}%"></span>'
            for colour, seconds in zip(kinds.values(), spent, strict=True)
        )
        parts.append(f'<h3>{html.escape(run.name)}: {told}</h3>\n<div class="bar">{bar}</div>')
    return "\n".join(parts)


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in table.heads)
    style = ' class="fields"' if table.heads[0] == "field" else ""
    rows = []
    for first, *cells in table.rows:
        body = "".join(f"<td{_kind(cell)}>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{html.escape(first)}</th>{body}</tr>')
    note = f"\n<p>{html.escape(table.note)}</p>" if table.note else ""
    return "\n".join(
        [
            f'<h2>{html.escape(table.title)}</h2>\n<div class="wide"><table{style}>',
            f"<thead><tr>{heads}</tr></thead>\n<tbody>",
            *rows,
            f"</tbody></table></div>{note}",
        ]
    )


def _kind(cell: str) -> str:
    return ' class="unfinished"' if cell.startswith(UNFINISHED) else ""


def _style(place: int) -> str:
    return f"s s{place % chart.COLOURS}{' dashed' if place // chart.COLOURS % 2 else ''}"
