import io
import itertools

import pytest

from gconv import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_end_is_shown_even_if_the_loop_is_not_run_out(monkeypatch, stream):
    err = stream()
    monkeypatch.setattr("sys.stderr", err)
    items = progress.track(itertools.count(), 1000, "counting", seconds=1e9)
    assert list(itertools.islice(items, 1000)) == list(range(1000))
    assert ("1000/1000" if err.isatty() else "counting: 1,000 of 1,000") in err.getvalue()
    items.close()


def test_off_a_terminal_a_line_now_and_then(monkeypatch):
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    list(progress.track(range(3), 3, "counting", seconds=-1))
    assert err.getvalue().splitlines() == [f"counting: {n} of 3" for n in (1, 2, 3)]
