import functools
import itertools
import json
import statistics

import numpy as np
import pytest

import configs.text
from experiments import cost, grid, interactions, pages, table, transfer
from experiments.grid import RECORDS
from experiments.table import half_interval
from gconv.errors import UserError
from gconv.training.metrics import read_jsonl
from scripts.benchmark import operator

SHORT = ("ListOps", "Text", "Image")  # what two cores have run of a table of all tasks


@pytest.mark.parametrize("page", pages.pages(), ids=lambda path: path.name)
def test_every_table_of_a_page_is_that_of_its_record(page):
    text = page.read_text()
    assert pages.filled(text, page) == text


def test_a_block_is_filled_and_a_missing_record_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RECORDS", tmp_path)
    (tmp_path / "x.md").write_text("new\n")
    text = "a\n<!-- x.md -->\nold\n<!-- end -->\nb\n"
    assert pages.filled(text, tmp_path / "page") == "a\n<!-- x.md -->\nnew\n<!-- end -->\nb\n"
    with pytest.raises(UserError, match=r"page: .*y.md is missing"):
        pages.filled(text.replace("x.md", "y.md"), tmp_path / "page")


def test_what_the_answer_says_of_cost_is_in_the_records():
    rows = json.loads((RECORDS / "benchmark/ops.json").read_text())["rows"]
    for length in {row["length"] for row in rows}:
        here = [row for row in rows if row["length"] == length]
        attention = [row["gradient"] for row in here if "attention" in row["method"]]
        ours = {row["boundary"]: row["gradient"] for row in here if row["method"] == "global_conv bcl"}
        assert len(ours) == 3 and ours["circular"] < min(attention), length
        causal = ours["causal"] / min(attention)
        assert 0.8 < causal < 0.87 if length < 64 else causal < 0.6, length
        timed = {row["method"]: row for row in here}
        if length < 65_536:
            direct, theirs = timed[operator.PYTORCH_DIRECT], timed[operator.PYTORCH_ATTENTION]
            forward, gradient = (direct[part] / theirs[part] for part in ("forward", "gradient"))
            assert 0.55 < forward < 0.95
            assert length < 256 or 2.95 < gradient < 4.35
        times = timed[operator.ATTENTION]["gradient"] / timed[operator.PYTORCH_ATTENTION]["gradient"]
        assert 1.05 < times < 2.65
        if "jax.nn attention" in timed:
            times = timed[operator.ATTENTION]["gradient"] / timed["jax.nn attention"]["gradient"]
            assert round(times, 1) == 1.4 if length == 16 else 0.75 < times < 0.95
        if length in (1024, 65_536):
            times = attention[-1] / ours["circular"]
            assert round(times, -1 if length > 1024 else 0) == {1024: 28, 65_536: 850}[length]
    assert operator.by_length(rows) == (RECORDS / "benchmark/by_length.md").read_text()
    steps = json.loads((RECORDS / "benchmark/step.json").read_text())["rows"]
    for length, times in ((512, 8), (1024, 12)):
        of = {row["model"]: row["seconds"] for row in steps if row["length"] == length and "task" not in row}
        assert round(of["attention"] / of["gconv"]) == times
    by_task: dict[str, dict[str, float]] = {}
    for row in steps:
        if "task" in row:
            by_task.setdefault(row["task"], {})[row["model"]] = row["seconds"]
    for task, times in (("pathx", 51), ("image", 10), ("pathfinder", 9)):
        assert round(by_task[task]["attention"] / by_task[task]["gconv"]) == times
    places = {task: sorted(of, key=lambda model: of[model]) for task, of in by_task.items()}
    assert {order[0] for order in places.values()} == {"mlp_mixer", "gconv_plain"}
    assert max(order.index("gconv") for order in places.values()) == 3
    timed = {row["method"]: row["gradient"] for row in rows if row["length"] == 1024}
    assert round(timed[operator.ATTENTION] / timed[operator.PYTORCH_ATTENTION], 1) == 2.2


def test_what_the_answer_says_of_a_layer_with_its_dense_layers_is_in_the_record():
    rows = json.loads((RECORDS / "benchmark/block.json").read_text())["rows"]
    taken = {(row["length"], row["model"]): row["seconds"] for row in rows}
    found = {
        length: [taken[length, "attention" + name] / taken[length, "gconv" + name] for name in ("", ", perceptron")]
        for length in (16, 64, 1024, 65_536)
    }
    assert [round(of, 1) for length in (16, 64) for of in found[length]] == [1.1, 0.6, 2.0, 1.3]
    assert [round(of) for of in found[1024]] == [13, 6] and [round(of, -1) for of in found[65_536]] == [230, 150]
    assert 0.45 < found[1024][1] / found[1024][0] < 0.55 and 0.6 < found[65_536][1] / found[65_536][0] < 0.7


def test_what_the_readme_says_of_the_operators_speed_is_in_the_record():
    rows = json.loads((RECORDS / "benchmark/ops.json").read_text())["rows"]
    timed = {(row["length"], row["boundary"], row["method"]): row for row in rows}

    def ratios(ours, others, part, lengths, boundaries=("circular", "causal", "bidirectional")):
        """Our time over that of the fastest of the others."""
        return {
            (length, boundary): timed[length, boundary, ours][part]
            / min(timed[length, boundary, other][part] for other in others)
            for length in lengths
            for boundary in boundaries
        }

    pytorch, naive = ("PyTorch rfft blc", "PyTorch rfft bcl"), ("naive jnp.fft",)
    short, long = (16, 64, 256), (1024, 4096, 16_384, 65_536)
    assert max(ratios("global_conv bcl", (*pytorch, *naive), "gradient", long).values()) < 1
    behind = {cell for cell, of in ratios("global_conv bcl", pytorch, "gradient", short).items() if of > 1}
    assert behind == {(64, "bidirectional")}
    forward = ratios("global_conv bcl", pytorch, "forward", (*short, *long))
    assert [cell for cell, of in forward.items() if of < 1] == [(16, "bidirectional"), (256, "bidirectional")]
    assert {round(of, 1) for of in ratios("global_conv blc", naive, "gradient", long, ["circular"]).values()} == {
        0.7,
        0.8,
        0.9,
    }
    for way, lengths, low, high in (("", long, 1.7, 2.5), (", a device a core", long[:-1], 2.0, 2.3)):
        times = [
            timed[length, boundary, f"global_conv bcl{way}"]["gradient"]
            / timed[length, "circular", f"global_conv bcl{way}"]["gradient"]
            for length in lengths
            for boundary in ("causal", "bidirectional")
        ]
        assert (round(min(times), 1), round(max(times), 1)) == (low, high)
    shifted, by_fft = "global_conv shift bcl, 4 taps", ["global_conv bcl, 4 taps"]
    few = ratios(shifted, by_fft, "gradient", (*short, *long), ["circular"])
    assert {length: round(of, 1) for (length, _), of in few.items() if of > 1} == {16: 1.3, 1024: 1.2, 65_536: 1.1}
    assert (f"{min(few.values()):.1f}", f"{max(few.values()):.1f}") == ("0.8", "1.3")  # as the operator's code says
    for part, behind in (("gradient", {"causal": 1.0, "bidirectional": 1.4}), ("forward", {"bidirectional": 1.1})):
        found = ratios("global_conv blc", naive, part, (*short, *long))
        assert {cell: round(of, 1) for cell, of in found.items() if of > 0.99} == {
            (65_536, boundary): of for boundary, of in behind.items()
        }
    attention = timed[1024, "", operator.PYTORCH_ATTENTION]["gradient"]
    of = [
        attention / timed[1024, way, "global_conv bcl"]["gradient"] for way in ("circular", "bidirectional", "causal")
    ]
    assert list(map(round, of)) == [28, 12, 17]


def test_what_the_answer_says_of_heads_is_in_the_records():
    record = json.loads((RECORDS / "heads/heads.json").read_text())
    heads = [head for model in record for head in model["heads"]]
    assert len(record) == 3 and max(head["r2"] for head in heads) < 0.045
    assert [round(100 * f(head["untied"] for head in heads)) for f in (min, max)] == [5, 59]
    assert max(abs(head["replaced"][0] - head["removed"][0]) for head in heads) < 0.014
    assert sum(max(head[by][0] - head[by][1] for by in ("replaced", "removed")) <= 0 for head in heads) == 2
    for by in ("replaced, trained on", "removed, trained on"):
        losses = [head[by][0] for head in heads]
        assert max(losses) < 0.0155 and round(100 * statistics.mean(losses), 1) in (0.4, 0.5, 0.6)
    for model in record:
        together = model["all"]
        assert 0.07 <= together["attention, trained on"] - together["fitted kernels, trained on"] < 0.085


def test_what_the_answer_says_of_layers_paid_for_is_in_the_records():
    lengths = json.loads((RECORDS / "cost/cost.json").read_text())["lengths"]
    paid = {int(n): [at["attention"][2] / at[way][2] for way in ("direct", "FFT")] for n, at in lengths.items()}
    assert (
        round(paid[16][1], 1) == 1.2 and round(paid[1024][1], 1) == 2 and max(direct for direct, _ in paid.values()) < 2
    )
    assert paid[8192][1] < 12 < paid[16384][1] < 24 < paid[32768][1]

    def first(layers, part):
        """From which length on one layer of attention costs as much as so many of convolution."""
        costs = ((length, cost.flops(length)) for length in range(16, 40_000))
        return next(length for length, of in costs if of["attention"][part] >= layers * of["FFT"][part])

    assert (first(2, 2), first(12, 1), first(12, 2), first(24, 2)) == (1052, 2742, 14_040, 29_648)
    bare = [at["attention"][1] / at["FFT"][0] for at in lengths.values()]
    assert int(min(bare)) == 67


def test_what_the_answer_says_of_memory_is_in_the_records():
    record = json.loads((RECORDS / "cost/cost.json").read_text())["memory"]
    of_x = {
        int(length): [bytes_ / (cost.BATCH * int(length) * cost.FEATURES * cost.ITEMSIZE) for bytes_ in of.values()]
        for length, of in record.items()
    }
    assert {round(fft) for length, (fft, *_) in of_x.items() if length > 16} == {5} and of_x[16][0] < 5.6
    assert {round(direct) for _, direct, *_ in of_x.values()} == {35}
    assert round(of_x[1024][2]) == 134 and round(of_x[65_536][2], -2) == 8200
    assert {round(of_x[length][3]) for length in of_x if length > 64} == {9, 10}
    rows = json.loads((RECORDS / "benchmark/ops.json").read_text())["rows"]
    of_sides: dict[bool, set[int]] = {True: set(), False: set()}
    for row in rows:
        if row["method"] == "global_conv bcl" and row["boundary"] != "causal":
            x = 4 * row["batch"] * row["length"] * operator.CHANNELS
            of_sides[row["boundary"] == "circular"].add(round(row["bytes"] / x))
    assert {sides: (min(found), max(found)) for sides, found in of_sides.items()} == {True: (6, 8), False: (7, 10)}


def test_what_the_answer_says_of_interactions_is_in_the_records():
    record = json.loads((RECORDS / "interactions/trained.json").read_text())
    found = {key: {m.seed: m for m in models} for key, models in interactions.groups(record).items()}
    measured = {model.test_accuracy for of_seeds in found.values() for model in of_seeds.values()}
    runs = [r for r in grid.read_records("interactions", "small") if r["selected"]]
    assert len(runs) == 60 and {r["result"]["test_accuracy"] for r in runs} == measured

    def more(one, other):
        """Whether the mean interaction is larger, by its 95% interval over seeds, paired."""
        pairs = [(found[one][seed], found[other][seed]) for seed in found[one].keys() & found[other].keys()]
        differences = [statistics.mean(a.trained) - statistics.mean(b.trained) for a, b in pairs]
        assert len(differences) == 3
        return statistics.mean(differences) > half_interval(differences)

    def mean(key, of):
        return statistics.mean(statistics.mean(getattr(model, of)) for model in found[key].values())

    for of_seeds in found.values():
        by_distance = np.mean([m.trained for m in of_seeds.values()], 0)
        assert max(by_distance / record["task"]) < 0.41 and by_distance.argmax() == 0
        assert 1 / 7.5 < by_distance[-1] / by_distance[0] < 0.41
    depths = (1, 2, 4, 12, 24)
    means = {mixer: [mean((mixer, layers), "trained") for layers in depths] for mixer in ("attention", "gconv")}
    assert all(a > b for a, b in zip(*means.values(), strict=True))
    assert {mixer: (round(min(of), 2), round(max(of), 2)) for mixer, of in means.items()} == {
        "attention": (0.22, 0.28),
        "gconv": (0.15, 0.22),
    }
    assert [layers for layers in depths if more(("attention", layers), ("gconv", layers))] == [1, 24]
    for layers in depths:
        accuracies = [
            statistics.mean(m.test_accuracy for m in found[mixer, layers].values()) for mixer in ("attention", "gconv")
        ]
        assert accuracies[0] < accuracies[1]
    deeper = {
        mixer: [n for n in depths[1:] if more((mixer, n), (mixer, 1))] for mixer in ("gconv", "fnet", "attention")
    }
    assert deeper == {"gconv": [4, 12], "fnet": [12, 24], "attention": []}
    assert all(mean(("gconv", layers), "untrained") < 0.02 for layers in (1, 2, 4))
    falls = [("attention", 4), ("gconv", 24)]
    falls += [(mixer, layers) for mixer in ("attention", "mlp_mixer", "fnet") for layers in (12, 24)]
    assert all(mean(key, "untrained") > mean(key, "trained") for key in falls)
    for layers in depths:
        field = np.mean([m.field for m in found["gconv", layers].values()], 0)
        assert 0.4 < np.mean(field[8:13]) / field[1] < 0.7 and np.mean(field[30:48]) > 0.8 * np.mean(field[10:20])


def chosen_rates(records):
    return {(r["row"], r["column"]): r["swept"]["optim.lr"] for r in records if r["selected"]}


def test_what_the_answer_says_of_recall_is_in_the_records():
    records = grid.read_records("recall", "small")
    cells = table.cells(records)
    convolutions = [row for row, _ in cells if row.startswith(("gconv", "kernel")) and "attention" not in row]
    assert len(set(convolutions)) == 6
    highest = {cell for cell, rate in chosen_rates(records).items() if rate == 0.02}
    assert sum(row in convolutions for row, _ in highest) == 6 and ("MLP-Mixer", "scattered MQAR") in highest
    for row, column in cells:
        cell = cells[row, column]
        guess = cell.results[0]["chance"]
        assert len(cell.accuracies) == 5
        scores = sorted(cell.accuracies.values())
        if row in convolutions:
            assert cell.mean < guess + 0.03
        elif row == "MLP-Mixer":
            low, high = (0.45, 0.97) if column == "MQAR" else (guess + 0.025, 0.69)
            assert low < scores[0] < scores[-1] < high and scores[-1] > high - 0.02
        elif row == "attention" and column == "scattered MQAR":
            assert cell.mean < guess
        else:
            assert scores[1] > 0.999 and (scores[0] > 0.999 or row == "gconv, then attention")


def test_what_the_answer_says_of_shares_and_matches_is_in_the_records():
    share, matches = (table.cells(grid.read_records(name, "small")) for name in ("share", "matches"))
    rows = ("no attention", "one layer in four", "two layers in four", "attention only")
    assert [round(100 * share[row, "ListOps"].mean) for row in rows] == [50, 52, 52, 48]
    assert not any(difference(share, a, b, "ListOps")[1] for a, b in itertools.combinations(rows, 2))
    recalled = {row: share[row, "MQAR"].accuracies.values() for row in rows}
    assert min(min(recalled[row]) for row in rows[1:]) > 0.99 and max(recalled["no attention"]) < 0.27
    assert {len(of) for of in recalled.values()} == {3}
    of = {row: difference(matches, row, "attention", "ListOps") for row, column in matches if column == "ListOps"}
    assert of["gconv, same parameters"] == (pytest.approx(1.4, abs=0.1), False)
    assert all(
        3 < of[f"gconv, same FLOPs, {way}"][0] < 4 and of[f"gconv, same FLOPs, {way}"][1]
        for way in ("direct", "by FFT")
    )
    assert of["gconv, same time"] == (pytest.approx(4.1, abs=0.1), True)
    sizes = [matches[row, "ListOps"].results[0]["parameters"] for row in ("gconv, same time", "attention")]
    assert 3.7 < sizes[0] / sizes[1] < 4


def test_what_the_answer_says_of_mirror_images_is_in_the_records():
    cells, task = table.cells(grid.read_records("augmentation", "small")), "Image for 2000 steps"
    for row in ("gconv", "attention, modern"):
        gained, apart = difference(cells, f"{row}, mirrored", row, task)
        assert abs(gained) < 0.5 and not apart, row
    ahead, apart = difference(cells, "gconv", "attention, modern", task)
    assert round(ahead) == 1 and apart


def test_what_the_answer_says_of_other_abilities_is_in_the_records():
    cells = table.cells(grid.read_records("probes", "small"))
    guess = {column: cell.results[0]["chance"] for (_, column), cell in cells.items() if cell.results}
    mixers = (
        "gconv",
        "gconv, gated",
        "MLP-Mixer",
        "attention",
        "attention, short convolution",
        "gconv, then attention",
    )
    *without, attention, convolved, both = mixers

    def mean(row, column):
        assert len(cells[row, column].accuracies) == 3
        return cells[row, column].mean

    for column in ("copying of 20", "majority", "memorisation"):
        assert min(mean(row, column) for row in mixers) > 0.99 > guess[column] + 0.4
    for column in ("parity of 15 bits", "look-up by 2-gram"):
        assert max(mean(row, column) for row in mixers) < guess[column] + 0.01
    compressed = [mean(row, "compression") for row in mixers]
    assert round(100 * min(compressed)) == 16 == round(100 * guess["compression"]) and max(compressed) < 0.22
    recall = "recall by one query"
    assert min(mean(row, recall) for row in (attention, convolved, both)) > 0.99
    assert max(mean("gconv", recall), mean("MLP-Mixer", recall)) < guess[recall]
    gated = sorted(cells["gconv, gated", recall].accuracies.values())
    assert 0.06 < mean("gconv, gated", recall) - guess[recall] < 0.07
    assert round(100 * (gated[-1] - guess[recall])) == 13 and gated[-2] - guess[recall] < 0.06
    for column, low, high in (("copying of 5 to 20", 0.25, 0.31), ("selective copying at 256", 0.29, 0.31)):
        assert [round(mean(row, column), 2) for row in without[:2]] == [low, high]
        assert guess[column] < low - 0.05 and min(mean(row, column) for row in (attention, convolved, both)) > 0.6
    assert [round(mean(row, "selective copying at 256"), 1) for row in (attention, convolved, both)] == [0.6] * 3
    found = {row: [a > 0.99 for a in cells[row, "induction"].accuracies.values()] for row in without}
    assert sum(found["gconv"]) == 2 and sum(found["gconv, gated"]) == 3


def test_what_the_answer_says_of_length_transfer_is_in_the_records():
    record = json.loads((RECORDS / "transfer/transfer.json").read_text())
    assert transfer.table(record) == (RECORDS / "transfer/transfer.md").read_text()
    found = transfer.by_row(record)
    attention = [found.pop(row) for row in list(found) if "attention" in row]
    assert len(found) == 5 and len(attention) == 2
    for values in found.values():
        for theirs in attention:
            leads = values[:, 1:] - theirs[:, 1:]
            assert all(table.differ(list(leads[:, i])) for i in (0, 1)) and 9.5 <= leads[:, 0].mean() < 16
    beyond = {row: [bool(table.differ(list((v - a)[:, 3]))) for a in attention] for row, v in found.items()}
    assert [row for row, apart in beyond.items() if apart != [True, True]] == ["free (LongConv)"]
    assert beyond["free (LongConv)"] == [True, False]
    for values, ends in (
        (list(found.values()), [(43, 50), (32, 37), (29, 34), (23, 28)]),
        (attention, [(40, 47), (21, 23), (20, 20), (16, 19)]),
    ):
        means = np.round([of.mean(axis=0) for of in values]).astype(int)
        assert [(column.min(), column.max()) for column in means.T] == ends
    free, *others = (found[row][:, 3].mean() for row in found if "implicit" not in row)
    assert free < min(others) - 3


def test_what_the_answer_says_of_depth_is_in_the_records():
    by_row = table.cells(grid.read_records("depth", "small"))
    rows = [row for row, _ in by_row]
    cells = list(by_row.values())
    assert [len(cell.accuracies) for cell in cells] == [3] * 5
    assert [round(100 * cell.mean) for cell in cells] == [51, 50, 51, 48, 45]
    behind = {row: [difference(by_row, other, row, "ListOps") for other in rows if other != row] for row in rows}
    assert not any(apart for row in rows[1:3] for _, apart in behind[row][:2])
    assert [apart for _, apart in behind["12 layers"][:3]] == [True, False, False]
    assert all(2 < points < 3.4 for points, _ in behind["12 layers"][:3])
    assert all(apart for _, apart in behind["24 layers"])
    counts = [cell.results[0]["parameters"] for cell in cells]
    assert max(counts) / min(counts) < 1.08


def test_what_the_answer_says_of_stacks_is_in_the_records():
    records = grid.read_records("stack", "small")
    cells = table.cells(records)
    assert len(cells) == 9 and all(len(cell.accuracies) == 3 for cell in cells.values())
    ahead = functools.partial(difference, cells, column="ListOps")
    letter, gconv, attention = (
        [row for row, _ in cells if word in row] for word in ("question's", "gconv", "attention")
    )
    assert all(42.5 < 100 * cells[row, "ListOps"].mean < 44 for row in letter)
    assert all(abs(ahead(row, letter[0])[0]) < 1 and not ahead(row, letter[0])[1] for row in letter[1:])
    for row in letter:
        assert all(2.8 < ahead(other, row)[0] < 5.3 for other in attention)
        assert all(5.7 < ahead(other, row)[0] < 8.7 for other in gconv)
    leads = [ahead(ours, theirs) for ours, theirs in zip(gconv, attention, strict=True)]
    assert [round(points) for points, _ in leads] == [3] * 3 and [apart for _, apart in leads] == [True, True, False]
    assert [round(100 * a) for a in sorted(cells[gconv[2], "ListOps"].accuracies.values())] == [47, 51, 53]
    for of, most in ((gconv, 1.9), (attention, 1.4)):
        for row in of[1:]:
            points, apart = ahead(row, of[0])
            assert 0.4 < points < most and not apart
    best = best_with_layer_norm(records, (gconv[0], gconv[2], attention[0], attention[2]))
    assert best == [44, 42, 47, 46]


def test_what_the_answer_says_of_kernels_is_in_the_records():
    records = grid.read_records("kernels", "small")
    cells = {key: cell for key, cell in table.cells(records).items() if key[1] in SHORT}
    assert len(cells) == 24 and all(len(cell.accuracies) == 3 for cell in cells.values())
    free, random, squash, scales, resolutions, implicit, diagonal, fourier = (
        row for row, column in cells if column == "Image"
    )
    short = {row: 100 * cell.mean for (row, column), cell in cells.items() if column == "ListOps"}
    lower, squashed = [short.pop(row) for row in (implicit, fourier)], short.pop(squash)
    assert max(short.values()) - min(short.values()) < 0.5
    assert all(1.5 < min(short.values()) - mean < 2.5 for mean in lower)
    assert 1 < min(short.values()) - squashed < 1.5
    for row in (free, random, squash, scales, diagonal, implicit):
        points, apart = difference(cells, fourier, row, "Image")
        assert points > 4 and apart
    assert not difference(cells, fourier, resolutions, "Image")[1]
    for row, column, points in (
        (fourier, "Image", 5),
        (resolutions, "Image", 3),
        (implicit, "Image", -2),
        (resolutions, "Text", 3),
        (squash, "Text", 2),
    ):
        ahead, apart = difference(cells, row, free, column)
        assert round(ahead) == points and apart
    assert max(cells[row, "Text"].mean for row in short) == cells[resolutions, "Text"].mean
    gained, apart = difference(cells, squash, free, "Image")
    assert round(gained) == 1 and not apart
    assert not any(difference(cells, random, free, column)[1] for column in ("ListOps", "Text", "Image"))
    at = {
        (r["row"], r["swept"]["optim.kernel_lr"]): 100 * r["result"]["test_accuracy"]
        for r in records
        if r["column"] == "Image" and r["seed"] == 0
    }
    assert round(at[free, 0.003] - at[fourier, 0.003]) == 1 and round(at[free, 0.03] - at[implicit, 0.03]) == 10


def test_what_the_answer_says_of_reach_is_in_the_records():
    cells = table.cells(grid.read_records("truncation", "small"))
    assert all(len(cells[row, column].accuracies) == 3 for row, column in cells if column != "Pathfinder")
    ahead = functools.partial(difference, cells)
    for shorter, most in (("31 taps", 0.6), ("15 taps", 1.7)):
        points, apart = ahead("all taps", shorter, "ListOps")
        assert 0 < points < most and not apart
    assert ahead("all taps", "1 taps", "ListOps")[0] > 12
    assert round(100 * cells["1 taps", "Text"].mean) == 58
    for row in ("7 taps", "15 taps"):
        assert ahead(row, "1 taps", "Text") == (pytest.approx(7.4, abs=0.1), True)
        assert ahead(row, "all taps", "Text") == (pytest.approx(6, abs=0.1), True)
    contours = {
        row: 100 * cell.mean for (row, column), cell in cells.items() if column == "Pathfinder" and cell.results
    }
    assert {row: round(mean) for row, mean in contours.items()} == {"63 taps": 49, "127 taps": 71, "all taps": 81}
    assert ahead("all taps", "127 taps", "Pathfinder")[1] and ahead("127 taps", "63 taps", "Pathfinder")[1]
    longer = [cells[f"{taps} taps", "Text"].mean for taps in (15, 31, 63, "all")]
    assert longer == sorted(longer, reverse=True) and not ahead("all taps", "1 taps", "Text")[1]


def test_what_the_answer_says_of_recall_by_size_is_in_the_records():
    records = grid.read_records("recall_sizes", "small")
    cells = table.cells(records)
    columns = {column for _, column in cells}
    solved = {"width 64": 5, "width 128": 5, "8000 steps": 5, "64 tokens": 4, "4 layers": 3, "8 pairs in 64 tokens": 3}
    solved |= {"2 pairs": 2, "1 layer": 0, "width 16": 0}
    assert columns == solved.keys()
    for column in columns:
        guess = cells["gconv", column].results[0]["chance"]
        assert all(
            len(cells[row, column].accuracies) == 5 for row in ("gconv", "gconv, gated", "attention", "MLP-Mixer")
        )
        assert cells["gconv", column].mean < guess + 0.04 and cells["gconv, gated", column].mean < guess + 0.02, column
        answered = cells["attention", column].accuracies.values()
        assert sum(accuracy > 0.98 for accuracy in answered) == solved[column], column
        assert all(accuracy > 0.98 or accuracy < guess + 0.05 for accuracy in answered), column
        least = {"width 128": 0.945, "width 64": 0.755, "1 layer": 0.5, "8000 steps": 0.99}
        mixed = cells["MLP-Mixer", column].accuracies.values()
        assert column not in least or min(mixed) >= least[column], column
    assert max(cells["MLP-Mixer", "1 layer"].accuracies.values()) < 0.63
    highest = [cell for cell, rate in chosen_rates(records).items() if rate == 0.02]
    assert sum(row == "MLP-Mixer" for row, _ in highest) >= 8


def test_what_the_answer_says_of_mixing_channels_is_in_the_records():
    cells = table.cells(grid.read_records("mixing", "small"))
    none, perceptron, glu, both, gated = (row for row, column in cells if column == "Image")
    assert none == "conv–GELU–conv, no mixing" and gated == "gated conv, perceptron"
    gains = {row: difference(cells, row, none, "ListOps") for row in (glu, perceptron, both)}
    assert [round(points) for points, _ in gains.values()] == [3, 5, 6]
    assert [apart for _, apart in gains.values()] == [False, False, True]
    for row in (none, perceptron, glu):
        points, apart = difference(cells, both, row, "Image")
        assert round(points) == 2 and apart
        assert abs(difference(cells, row, none, "Image")[0]) < 1
        points, apart = difference(cells, gated, row, "Text")
        assert round(points) in (5, 6) and apart
    assert difference(cells, gated, both, "Text") == (pytest.approx(3, abs=0.3), False)
    layer = {(row, column) for (row, column), cell in cells.items() if cell.chosen.startswith("layer")}
    assert layer == {(gated, "Text"), (gated, "Image")}
    parameters = [cells[row, "ListOps"].results[0]["parameters"] for row in (glu, perceptron, both)]
    assert min(parameters) > 13_000 and max(parameters) < 26_000


def test_what_the_answer_says_of_wide_recall_is_in_the_records():
    records = grid.read_records("recall_wide", "small")
    cells = {row: cell for (row, _), cell in table.cells(records).items()}
    plain, gated = "gconv, plain (the question's)", "gconv, gated"

    def scores(row):
        return [round(100 * score) for score in sorted(cells[row].accuracies.values())]

    assert scores("gconv") == [69, 73, 77] and cells["gconv"].results[0]["chance"] == 0.25
    assert scores("gconv, no perceptron") == [29, 29, 31]
    assert scores("gconv, batch norm") == [50, 53, 56]
    after_8000 = table.cells(grid.read_records("recall_longer", "small"))
    longer = after_8000["gconv", "MQAR"]
    assert {len(of.accuracies) for of in after_8000.values()} == {0, 5}
    of_plain = after_8000[plain, "MQAR"].accuracies.values()
    assert (round(100 * min(of_plain)), round(100 * max(of_plain))) == (54, 87)
    ahead, apart = difference(after_8000, "gconv", plain, "MQAR")
    assert apart and round(ahead) == 26
    assert min(after_8000["attention", "scattered MQAR"].accuracies.values()) > 0.999
    scattered = after_8000["gconv", "scattered MQAR"]
    assert [round(100 * score) for score in sorted(scattered.accuracies.values())] == [78, 81, 83, 83, 84]
    assert round(100 * scattered.results[0]["chance"]) == 42
    assert [round(100 * score) for score in sorted(longer.accuracies.values())] == [97, 99, 99, 99, 99]
    half = after_8000["gconv, width 64", "MQAR"]
    assert [round(100 * score) for score in sorted(half.accuracies.values())] == [52, 56, 59, 59, 66]
    assert 2.9 < longer.results[0]["parameters"] / half.results[0]["parameters"] < 3.4
    small = table.cells(grid.read_records("recall", "small"))["attention", "MQAR"]
    assert min(small.accuracies.values()) > 0.999
    assert round(longer.results[0]["parameters"] / small.results[0]["parameters"]) == 14
    behind, apart = difference(table.cells(records), "gconv", "gconv, batch norm", "MQAR")
    assert apart and round(behind) == 20
    for other in ("gconv, no perceptron", plain, gated):
        assert difference(table.cells(records), "gconv", other, "MQAR")[1]
    assert scores(plain) == [29, 48, 51] and scores("attention") == [100, 100, 100]
    first = {
        (r["row"], r["swept"]["optim.lr"]): round(100 * r["result"]["test_accuracy"])
        for r in records
        if r["seed"] == 0 and r["state"] == "finished"
    }
    assert (first["gconv", 0.002], first["gconv", 0.02], first["attention", 0.02]) == (28, 29, 25)
    rates = {row: rate for (row, _), rate in chosen_rates(records).items()}
    middle = ("gconv", "gconv, batch norm", "gconv, no perceptron", plain)
    assert rates == {**dict.fromkeys(middle, 0.006), gated: 0.002, "attention": 0.002}
    assert scores(gated) == [28, 35, 35] and cells[gated].mean < cells["gconv"].mean
    alone = table.cells(grid.read_records("recall_sizes", "small"))
    for column in {column for _, column in alone}:
        assert alone["gconv, gated", column].mean < alone["gconv", column].mean
    ours = [alone["gconv", column].mean for column in ("width 128", "8000 steps")]
    ours.append(table.cells(grid.read_records("recall", "small"))["gconv, perceptron", "MQAR"].mean)
    assert [round(100 * mean) for mean in ours] == [29, 27, 27]


def test_what_the_answer_says_of_recall_with_gates_is_in_the_records():
    records = grid.read_records("recall_gated", "small")
    cells = {row: cell for (row, _), cell in table.cells(records).items()}
    gated, gconv, attention = (cells[row] for row in ("gconv, gated", "gconv, perceptron", "attention"))
    assert [round(100 * score) for score in sorted(gated.accuracies.values())] == [37, 62, 77]
    assert [round(100 * score) for score in sorted(gconv.accuracies.values())] == [33, 45, 47]
    assert not difference(table.cells(records), "gconv, gated", "gconv, perceptron", "MQAR")[1]
    assert len(attention.accuracies) == 3 and min(attention.accuracies.values()) > 0.999
    longer = table.cells(grid.read_records("recall_longer", "small"))
    twice = longer["gconv, gated, no perceptron", "MQAR with blanks"]
    assert [round(100 * score) for score in sorted(twice.accuracies.values())] == [83, 83, 90, 95, 96]
    least = table.cells(grid.read_records("recall", "small"))["attention", "MQAR"].results[0]
    assert round(twice.results[0]["parameters"] / least["parameters"]) == 10
    rates = {row: rate for (row, _), rate in chosen_rates(records).items()}
    assert (rates["gconv, gated"], rates["gconv, perceptron"]) == (0.002, 0.006)
    parameters = [cell.results[0]["parameters"] for cell in (gconv, gated)]
    assert 1.25 < parameters[0] / parameters[1] < 1.4 and gated.results[0]["chance"] == 0.25
    beyond = [
        max(cell.accuracies.values()) - cell.results[0]["chance"]
        for other in ("recall", "recall_sizes", "recall_wide")
        for (row, _), cell in table.cells(grid.read_records(other, "small")).items()
        if row.startswith("gconv, gated")
    ]
    assert round(100 * max(beyond)) == 10


def test_what_the_answer_says_of_recall_at_its_published_size_is_in_the_records():
    cells = table.cells(grid.read_records("recall_published", "full"))
    found = {
        cell: [round(100 * of) for of in made.accuracies.values()] for cell, made in cells.items() if made.accuracies
    }
    assert found == {
        ("gconv, gated, rate 0.002", "16 passes"): [19],
        ("gconv, gated, rate 0.006", "16 passes"): [25],
        ("attention, rate 0.0005", "16 passes"): [91],
        ("attention, rate 0.002", "16 passes"): [53],
        ("gconv, gated, rate 0.006", "64 passes"): [92],
        ("attention, rate 0.0005", "64 passes"): [99],
    }
    steps = [cells["gconv, gated, rate 0.006", f"{passes} passes"].results[0]["steps"] for passes in (16, 64)]
    assert steps == [6_250, 25_000]


def test_what_the_answer_says_of_rates_norms_and_positions_is_in_the_records():
    cells = table.cells(grid.read_records("recipe", "small"))
    on = {row: cell.mean for (row, column), cell in cells.items() if column == "ListOps"}
    best = [on[f"rate {rate}"] for rate in (0.003, 0.01, 0.03)]
    assert max(best) - min(best) < 0.0025
    for slow, points, set_apart in (("rate 0", 11, True), ("rate 0.0001", 7, True), ("rate 0.001", 3, False)):
        for good in ("rate 0.003", "rate 0.01", "rate 0.03"):
            ahead, apart = difference(cells, good, slow, "ListOps")
            assert round(ahead) == points and apart == set_apart, (slow, good)
    column = "Image for 2000 steps"
    lost = {"rate 0": (8, 9), "rate 0.0001": (2, 3), "rate 0.01": (2, 3), "rate 0.03": (5, 5)}
    for row, (least, most) in lost.items():
        for good in ("rate 0.001", "rate 0.003"):
            ahead, apart = difference(cells, good, row, column)
            assert least <= round(ahead) <= most and apart, (row, good)
    ahead, apart = difference(cells, "rate 0.001", "rate 0.003", column)
    assert abs(ahead) < 1 and not apart
    for good in ("rate 0.001", "rate 0.003"):
        ahead, apart = difference(cells, good, "rate 0.01", "Text")
        assert round(ahead) == 1 and apart
    for task, row in itertools.product(("ListOps", "Text", column), ("scale 0.002", "scale 0.2")):
        ahead, apart = difference(cells, row, "rate 0.01", task)
        assert abs(ahead) < 1 and not apart
    means = {row: cell.mean for (row, _), cell in table.cells(grid.read_records("norm_and_positions", "small")).items()}
    convolutions = [mean for row, mean in means.items() if row.startswith("gconv")]
    blind = [mean for row, mean in means.items() if row.startswith("attention without") and "no positions" in row]
    told = [mean for row, mean in means.items() if mean not in (*convolutions, *blind)]
    assert [len(found) for found in (convolutions, blind, told)] == [4, 2, 6]
    assert max(blind) < min(convolutions) < max(convolutions) < min(told) - 0.04
    assert max(max(found) - min(found) for found in (convolutions, blind, told)) < 0.0125


def test_what_the_answer_says_of_reconstruction_is_in_the_records():
    cells, column = table.cells(grid.read_records("denoise", "small")), "Text for 2000 steps"
    for row, points, set_apart in (("gconv", 3, False), ("attention, modern", 2, True)):
        denoising, plain = (cells[name, column].accuracies for name in (f"{row}, denoising", row))
        ahead, apart = difference(cells, f"{row}, denoising", row, column)
        assert round(ahead) == points and apart == set_apart
        assert len(plain) == 3 and all(denoising[seed] > plain[seed] for seed in plain)
    for how in ("", ", denoising"):
        ahead, apart = difference(cells, f"gconv{how}", f"attention, modern{how}", column)
        assert abs(ahead) < 1 and not apart


def test_what_the_answer_says_of_what_holds_a_kernel_back_is_in_the_records():
    cells = table.cells(grid.read_records("regularization", "small"))
    ahead = {key: difference(cells, key[0], "none", key[1]) for key in cells if key[0] != "none"}
    found = {key: (round(2 * points) / 2, apart) for key, (points, apart) in ahead.items() if "squash .0" in key[0]}
    pictures = "Image for 2000 steps"
    assert found["squash .004", pictures] == (5.5, True) and found["squash .016", pictures] == (6.0, True)
    assert found["squash .004", "Text"] == (2.0, True) and found["squash .016", "Text"] == (4.0, True)
    assert not found["squash .004", "ListOps"][1] and found["squash .016", "ListOps"] == (-5.5, True)
    for (row, column), (points, apart) in ahead.items():
        if "squash" not in row:
            assert not apart or (column == pictures and points < 0.7), (row, column)


def difference(cells, one, other, column):
    """How many points one row is ahead, over the seeds; and whether a t-test paired by seed sets the two apart."""
    mine, others = cells[one, column].accuracies, cells[other, column].accuracies
    differences = [100 * (mine[seed] - others[seed]) for seed in sorted(mine.keys() & others.keys())]
    return statistics.mean(differences), table.differ(differences)


def test_what_the_answer_says_of_every_mixer_is_in_the_records():
    records = grid.read_records("main", "small")
    cells = {key: cell for key, cell in table.cells(records).items() if key[1] in SHORT}
    ahead = functools.partial(difference, cells)
    modern, original, plain = "attention, modern", "attention, original", "gconv, plain (the question's)"
    hybrid, local, space = "gconv + attention (hybrid)", "local convolution", "state space (S5)"
    assert len(cells) == 36 and all(len(cell.accuracies) == 3 for cell in cells.values())

    def apart(one, others, column, low, high):
        """Whether a row is so many points ahead of each of the others, and set apart from it."""
        return all(low < points < high and sure for points, sure in (ahead(one, row, column) for row in others))

    batch = {cell for cell in cells if cells[cell].chosen.startswith("batch")}
    assert {(row, c) for row in ("gconv", plain, hybrid, local, space) for c in ("ListOps", "Text", "Image")} <= batch
    assert ("gconv, gated", "Image") not in batch and (modern, "ListOps") not in batch
    assert apart(space, (modern, original), "ListOps", 6.5, 7.5) and apart(
        hybrid, (modern, original), "ListOps", 4.5, 5.5
    )
    assert [round(ahead("gconv", row, "ListOps")[0], 1) for row in (modern, original)] == [2.5, 2.5]
    assert [ahead("gconv", row, "ListOps")[1] for row in (modern, original)] == [False, True]
    assert apart("MLP-Mixer", (modern,), "ListOps", 1, 1.5) and apart(modern, ("FNet",), "ListOps", 1, 1.5)
    assert abs(ahead(plain, modern, "ListOps")[0]) < 0.5
    assert not any(ahead("gconv", row, "Text")[1] for row in (modern, original, plain))
    assert apart("gconv, gated", ("gconv", modern), "Text", 4, 5)
    others = [row for row, column in cells if column == "Text" and row != local]
    assert apart(local, others, "Text", 4, 11) and apart(local, ("gconv", modern), "Text", 8, 9)
    widths = [configs.text.get_config(f"{name},small,match=parameters").model.features for name in ("gconv", "local")]
    assert widths == [16, 34]
    resolutions, fourier = "gconv, multi-resolution kernel", "gconv, Fourier kernel"
    others = [row for row, column in cells if column == "Image" and row not in (space, resolutions, fourier)]
    assert apart(space, others, "Image", 3, 11.1) and round(100 * cells[space, "Image"].mean) == 38
    assert ahead(resolutions, space, "Image") == (pytest.approx(1.2, abs=0.1), False)
    assert apart(space, ("gconv", modern, original), "Text", 2.4, 2.9) and not ahead(space, "gconv, gated", "Text")[1]
    assert apart(resolutions, (modern, original), "Text", 2, 3)
    assert apart(resolutions, ("gconv", hybrid), "Image", 4, 5) and apart(fourier, ("gconv",), "Image", 2, 3)
    assert apart("gconv", (resolutions,), "ListOps", 2, 2.5)
    assert ahead("gconv", fourier, "ListOps") == (pytest.approx(3, abs=0.2), False)
    convolutions = {row for row, _ in cells if "gconv" in row} | {local, space}
    layer = {cell for cell in cells if cell[0] in convolutions} - batch
    assert layer == {("gconv, gated", "Image"), (fourier, "Text")}
    for row in ("gconv", hybrid):
        assert apart(row, (modern,), "Image", 5.4, 5.8) and apart(row, (original,), "Image", 0.5, 0.9)
    assert round(ahead("gconv", plain, "Image")[0]) == 3 and apart("gconv", ("FNet", local), "Image", 6.5, 8)
    for column in SHORT:  # one set of examples, whatever the archive's packing
        assert len({r["result"]["data"]["sha256"] for r in records if r["column"] == column}) == 1


def test_what_the_answer_says_of_contours_is_in_the_records():
    records = grid.read_records("main", "small")
    cells = table.cells(records)
    found = {row: cell for (row, column), cell in cells.items() if column == "Pathfinder" and cell.accuracies}
    plain, modern, original = "gconv, plain (the question's)", "attention, modern", "attention, original"
    assert all(len(cell.accuracies) == 3 for cell in found.values())
    means = {row: round(100 * cell.mean) for row, cell in found.items()}
    expected = {"gconv": 78, plain: 77, "MLP-Mixer": 64, "gconv, multi-resolution kernel": 59, original: 65}
    assert means == {**expected, modern: 53, "local convolution": 50}
    assert {found[row].chosen for row in (*expected, modern)} == {"batch, 0.003"}
    ahead = functools.partial(difference, cells, column="Pathfinder")
    assert not ahead("gconv", plain)[1]
    assert ahead("gconv", "MLP-Mixer") == (pytest.approx(13.7, abs=0.3), True)
    assert ahead("gconv", original) == (pytest.approx(12.9, abs=0.3), True)
    assert ahead("gconv", "gconv, multi-resolution kernel") == (pytest.approx(18.3, abs=0.3), True)
    of_convolutions = [r for r in records if r["column"] == "Pathfinder" and "gconv" in r["row"] and "result" in r]
    layer = [r["result"] for r in of_convolutions if r["swept"]["model.norm"] == "layer"]
    assert len(layer) == 6 and max(result["test_accuracy"] - result["chance"] for result in layer) < 0.011
    assert all(ahead("gconv", row)[1] for row in found if row not in ("gconv", plain))

    def by_seed(row):
        return [round(100 * accuracy) for accuracy in found[row].accuracies.values()]

    assert sorted(by_seed("gconv, multi-resolution kernel")) == [56, 58, 64] and sorted(by_seed(modern)) == [51, 53, 54]


def test_what_the_answer_says_of_longer_training_is_in_the_records():
    cells = table.cells(grid.read_records("longer", "small"))
    assert all(len(cell.accuracies) == 3 for cell in cells.values())
    listops, image = "ListOps for 3000 steps", "Image for 2000 steps"
    gconv, squash, resolutions, hybrid, modern, original = dict.fromkeys(row for row, _ in cells)

    def ahead(one, other, column):
        points, apart = difference(cells, one, other, column)
        return round(points), apart

    assert (ahead(gconv, modern, listops), ahead(gconv, original, listops)) == ((3, True), (7, True))
    assert (ahead(hybrid, gconv, listops), ahead(resolutions, gconv, listops)) == ((1, False), (1, False))
    assert ahead(gconv, squash, listops) == (2, True)
    assert ahead(gconv, modern, image) == (5, True) and ahead(gconv, original, image) == (1, False)
    assert (ahead(squash, gconv, image), ahead(resolutions, gconv, image)) == ((4, True), (8, True))
    assert (ahead(resolutions, modern, image), ahead(resolutions, original, image)) == ((14, True), (9, True))
    assert ahead(hybrid, gconv, image) == (0, False)
    assert table.winner({row: cells[row, image] for row in (gconv, squash, resolutions, hybrid, modern, original)}) == (
        resolutions
    )
    short = table.cells(grid.read_records("main", "small"))
    assert round(difference(short, resolutions, gconv, "Image")[0]) == 4
    gained = {
        row: 100 * (cells[row, image].mean - short[row, "Image"].mean) for row in (gconv, resolutions, modern, original)
    }
    assert 8 < gained.pop(resolutions) < 8.5 and all(3.5 < points < 5 for points in gained.values())
    sizes = [cells[row, listops].results[0]["parameters"] for row in (hybrid, modern)]
    assert round(100 * (sizes[0] / sizes[1] - 1)) == 11


def test_what_the_pages_say_of_larger_models_is_in_the_records():
    cells = table.cells(grid.read_records("quickstart", "small"))
    gconv, attention = (cells[row, "ListOps"] for row in ("gconv", "attention"))
    assert difference(cells, "gconv", "attention", "ListOps") == (pytest.approx(5, abs=0.2), True)
    assert round(100 * gconv.mean) == 58
    assert (gconv.chosen, attention.chosen) == ("batch, 0.03", "batch, 0.003")
    at = {"model.norm": "layer", "optim.lr": 3e-3, "optim.kernel_lr": 3e-3}
    alike = [r["result"]["test_accuracy"] for r in grid.read_records("quickstart", "small") if r["swept"] == at]
    assert len(alike) == 2 and 0.07 < alike[1] - alike[0] < 0.08
    of_main = table.cells(grid.read_records("main", "small"))["gconv", "ListOps"]
    assert 10 < gconv.results[0]["parameters"] / of_main.results[0]["parameters"] < 12


def test_what_the_answer_says_of_norms_is_in_the_records():
    cells = table.cells(grid.read_records("norms", "small"))
    at = ("ListOps", "ListOps at .01", "ListOps at .03")
    assert all(len(cells[row, column].accuracies) == 5 for row, _ in cells for column in at)
    mean = {row: [round(100 * cells[row, column].mean) for column in at] for row, _ in cells}
    assert mean["gconv, batch norm"] == [44, 49, 50] and mean["gconv, layer norm"] == [41, 44, 43]
    assert mean["attention, layer norm"][:2] == mean["attention, batch norm"][:2] == [46, 47]
    assert max(mean["attention, layer norm"][2], mean["attention, batch norm"][2]) < 42
    for norm in ("layer", "batch"):
        ahead, apart = difference(cells, "gconv, batch norm", f"attention, {norm} norm", "ListOps at .01")
        assert round(ahead) == 2 and apart
        fast, slow = (
            cells[row, f"ListOps at {rate}"].accuracies
            for row, rate in (("gconv, batch norm", ".03"), (f"attention, {norm} norm", ".01"))
        )
        differences = [100 * (fast[seed] - slow[seed]) for seed in fast]
        assert round(statistics.mean(differences)) == 3 and table.differ(differences)
        assert 16_000 < cells[f"attention, {norm} norm", "ListOps"].results[0]["parameters"] < 18_500
    assert 16_000 < cells["gconv, batch norm", "ListOps"].results[0]["parameters"] < 18_500
    for norm in ("layer", "batch"):
        ahead, apart = difference(cells, "gconv, batch norm", f"attention, {norm} norm", "Image")
        assert round(ahead) == 5 and apart
    assert abs(difference(cells, "attention, batch norm", "attention, layer norm", "Image")[0]) < 0.5
    for column, least, most in (
        ("Image", 3.5, 4.5),
        ("ListOps", 2.5, 3.5),
        ("ListOps at .01", 5, 6.5),
        ("ListOps at .03", 6, 7),
    ):
        gained, apart = difference(cells, "gconv, batch norm", "gconv, layer norm", column)
        assert least < gained < most and apart


def test_what_the_answer_says_of_the_ladder_is_in_the_records():
    records = grid.read_records("ladder", "small")
    cells = table.cells(records)
    ahead = functools.partial(difference, cells, column="ListOps")
    rows = [row for row, column in cells if column == "ListOps"]
    circle, line, low_rank, each, shared, tokens, content, mixer, attention = rows
    seven = (circle, line, low_rank, each, shared, tokens, content)
    assert all(len(cell.accuracies) == 3 for cell in cells.values())
    assert all(cells[row, "ListOps"].chosen.startswith("batch") for row in seven)
    assert all(cells[row, "ListOps"].chosen.startswith("layer") for row in (mixer, attention))
    assert {circle, line} == set(sorted(rows, key=lambda row: cells[row, "ListOps"].mean)[-2:])
    costs = [cells[row, "ListOps"].results[0]["parameters"] for row in seven]
    assert costs[:2] == sorted(costs)[:2]
    for convolution in (circle, line):
        assert ahead(convolution, low_rank) == (pytest.approx(0.6, abs=0.1), False)
        assert all(1.6 < ahead(convolution, row)[0] < 2.6 for row in (each, shared, tokens))
        assert ahead(convolution, attention) == (pytest.approx(2.9, abs=0.1), True)
    assert ahead(circle, content) == (pytest.approx(2.25, abs=0.1), True) and ahead(circle, tokens)[1]
    assert [row for row in seven if ahead(mixer, row)[1]] == [content] and not ahead(mixer, attention)[1]
    assert best_with_layer_norm(records, (circle, line, attention)) == [44, 44, 47]
    recalled = {row: [100 * a for a in cells[row, "MQAR"].accuracies.values()] for row in rows}
    assert all(min(recalled[row]) > 25 and max(recalled[row]) < 29 for row in rows if row not in (tokens, mixer))
    assert sorted(map(round, recalled[tokens])) == [25, 66, 72] and min(recalled[mixer]) > 99


def best_with_layer_norm(records, rows):
    """The accuracy on ListOps, in whole percent, of each row's first seed at the rate that is best on validation."""
    found = [r for r in records if r["column"] == "ListOps" and r["seed"] == 0 and r["swept"]["model.norm"] == "layer"]
    best = [
        max((r["result"] for r in found if r["row"] == row), key=lambda result: result["val_accuracy"]) for row in rows
    ]
    return [round(100 * result["test_accuracy"]) for result in best]


def test_what_the_answer_says_of_pictures_is_in_the_records():
    def means(name):
        cells = table.cells(grid.read_records(name, "small"))
        found = {row: cell for (row, column), cell in cells.items() if column == "Image"}
        assert all(len(cell.accuracies) == 3 for cell in found.values())
        return {row: 100 * cell.mean for row, cell in found.items()}

    reach = means("truncation")
    gains = [reach[f"{taps} taps"] - reach["1 taps"] for taps in (3, 31, 63, "all")]
    assert [round(gain) for gain in gains] == [10, 16, 20, 20]


def test_what_the_answer_says_of_boundaries_is_in_the_records():
    cells = table.cells(grid.read_records("boundaries", "small"))
    for column in ("ListOps", "Text", "Image"):
        for row in ("causal", "bidirectional"):
            points, apart = difference(cells, row, "circular", column)
            assert (round(points) == 5 and apart) if column == "Image" else (abs(points) < 1.2 and not apart)
        assert not difference(cells, "bidirectional", "causal", column)[1]


def test_what_the_answer_says_of_the_nonlinearity_is_in_the_records():
    cells = table.cells(grid.read_records("nonlinearity", "small"))
    assert {cell.chosen.partition(",")[0] for cell in cells.values()} == {"batch"}
    assert f"{100 * cells['identity', 'ListOps'].mean:.1f}" == "42.9"
    for sigma in ("relu", "gelu"):
        for column, low, high, apart in (
            ("ListOps", 0.3, 0.8, False),
            ("Text", -0.5, 0.5, False),
            ("Image", 9, 10, True),
        ):
            points, set_apart = difference(cells, sigma, "identity", column)
            assert low < points < high and set_apart == apart
    assert all(57 < 100 * cell.mean < 58 for (_, column), cell in cells.items() if column == "Text")
    assert not difference(cells, "gelu", "relu", "Image")[1]
    stacks = [
        cell.mean for (row, _), cell in table.cells(grid.read_records("stack", "small")).items() if "question" in row
    ]
    assert len(stacks) == 3 and all(abs(mean - cells["identity", "ListOps"].mean) < 0.01 for mean in stacks)
    of_all = table.cells(grid.read_records("main", "small"))
    assert all(
        57 < 100 * of_all[row, "Text"].mean < 58.1 for row in ("gconv", "attention, modern", "attention, original")
    )


def test_what_the_answer_says_of_full_models_is_in_the_records():
    cells = table.cells(grid.read_records("lra_short", ""))
    (gconv,), (attention,) = (
        [cell for (row, _), cell in cells.items() if row == name and cell.results]
        for name in ("gconv", "attention, modern")
    )
    for cell, low, high in ((gconv, 76, 77), (attention, 44, 45.5)):
        assert len(cell.results) == 3
        assert all(low < 100 * result["test_accuracy"] < high for result in cell.results)
    of_both = (cell.results[0]["parameters"] for cell in (gconv, attention))
    assert 60 < next(of_both) / next(of_both) < 65


def test_what_the_answer_says_of_text_at_full_scale_is_in_the_records():
    cells = table.cells(grid.read_records("text_norm", ""))
    (result,) = cells["layer norm, rate 0.01", "Text"].results
    assert round(100 * result["test_accuracy"], 1) == 83.3 and round(100 * result["val_accuracy"], 1) == 85.2
    assert round(result["train_seconds"] / 60) == 9
    course = read_jsonl(RECORDS / "text_norm/layer_norm_rate_0.01_seed0/metrics.jsonl")
    assert course[-1]["split"] == "test" and course[-1]["accuracy"] == result["test_accuracy"]
    rate = {r["step"]: r["lr"] for r in course if r["split"] == "train"}
    validated = [(rate[r["step"]], r["step"], r["accuracy"]) for r in course if r["split"] == "validation"]
    peak = max(rate, key=rate.__getitem__)
    assert rate[peak] == pytest.approx(0.01, rel=1e-3)
    assert all(accuracy < 0.7 for lr, step, accuracy in validated if step < peak or lr > 0.007)
    assert max(step for lr, step, _ in validated if lr > 0.007) == 21_000
    assert next(round(lr, 4) for lr, _, accuracy in validated if accuracy > 0.85) == 0.0006
    for rate in (0.01, 0.003):
        batch, layer = (cells[f"{norm} norm, rate {rate}", "Text of 512 bytes"].mean for norm in ("batch", "layer"))
        assert round(100 * batch) in (72, 73) and round(100 * layer) == 62
        points, apart = difference(cells, f"batch norm, rate {rate}", f"layer norm, rate {rate}", "Text of 512 bytes")
        assert 9.5 < points < 11.5 and apart


def test_what_is_said_of_an_h100_is_in_the_records():
    rows = json.loads((RECORDS / "benchmark/h100/ops.json").read_text())["rows"]
    time = {(r["method"], r["boundary"], r["length"]): (r["forward"], r["gradient"]) for r in rows}
    fused, naive, one_head = operator.FUSED, operator.NAIVE_BF16, f"{operator.CUDNN_ATTENTION}, 1 head"

    def ratio(boundary, length, rival, which=1):
        other = time[rival, "" if "attention" in rival else boundary, length]
        return round(time[fused, boundary, length][which] / other[which], 2)

    both = [(boundary, length) for boundary in ("circular", "causal") for length in (1024, 4096)]
    assert [ratio(*at, operator.CUDNN_ATTENTION) for at in both[:2]] == [0.17, 0.06]
    assert [ratio(*at, one_head) for at in both[:2]] == [0.28, 0.12]
    assert all(0.2 <= ratio(*at, naive, which=0) < 0.27 for at in both)
    assert [round(ratio(*at, naive), 1) for at in both] == [0.3, 0.4, 0.3, 0.6]
    for length in (1024, 4096):
        ours, theirs = (time[method, "circular", length][0] for method in ("global_conv bcl", "PyTorch rfft bcl"))
        assert 1 < ours / theirs < 1.13
        x = 4 * 2**25  # bytes
        assert round(8 * x / ours / 3.35e12, 1) == 0.6


def test_what_is_said_of_the_fused_kernels_later_form_is_in_its_record():
    rows = json.loads((RECORDS / "benchmark/h100/fused_by_length.json").read_text())["rows"]
    ratio = {(r["boundary"], r["length"]): round(r["fused_seconds"] / r["fft_seconds"], 1) for r in rows}
    assert {ratio["bidirectional", length] for length in (1024, 2048, 4096)} == {0.5, 0.6}
    assert [ratio["bidirectional", length] for length in (8192, 16384)] == [0.7, 1.5]
    assert ratio["circular", 4096] == 0.4
    assert all(error < 2e-3 for row in rows for error in row["errors"])


def test_what_the_answer_says_of_compiled_flops_is_in_the_record():
    record = json.loads((RECORDS / "cost/cost.json").read_text())
    more = {
        int(length): {name: of / record["operations"][length][name][0] for name, of in compiled.items()}
        for length, compiled in record["compiled"].items()
    }
    by_fft, attention = "global convolution by FFT", "attention"
    assert all(round(of[attention], 2) == 1.04 for of in more.values())
    assert {round(of[by_fft], 1) for length, of in more.items() if length <= 1024} <= {1.5, 1.6}
    assert {round(of[by_fft], 1) for length, of in more.items() if length >= 4096} == {2.0}
    for length, times in ((1024, 25), (65_536, 820)):
        compiled = record["compiled"][str(length)]
        assert round(compiled[attention] / compiled[by_fft], -1 if times > 100 else None) == times
