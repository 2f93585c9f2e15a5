"""What every command shares: one clear line for bad input, exit statuses, and an allocator that suits arrays."""

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

from gconv.errors import Stopped, UserError, is_refused_write, one_line


def run(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and calls `main(argv)`. What ends it is told, and gives the exit status, as `status_of` says."""
    sys.unraisablehook = _print_whole
    app.run(_reporting(main), flags_parser=_parse)


def _print_whole(unraisable: "sys.UnraisableHookArgs") -> None:
    # The interpreter's own hook prints in pieces. C++ threads of libraries end here, several at a time where a disk is
    # full, and a line that tells what ended the command would stand in the middle of theirs.
    where = "" if unraisable.object is None else f"Exception ignored in: {unraisable.object!r}\n"
    trace = traceback.format_exception(unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback)
    sys.stderr.write(where + "".join(trace))


_HELP = {f"{dashes}{name}" for dashes in ("-", "--") for name in ("help", "helpfull", "helpshort", "helpxml", "?")}


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv, known_only=False)
    except SystemExit as ended:  # after help absl has 1
        sys.exit(0 if _HELP.intersection(argv) else ended.code)
    except BrokenPipeError:
        _stop_printing()
    except Exception as error:  # of absl, of ml_collections, or of a config file itself
        cause: Any = error
        while isinstance(cause, KeyError | AttributeError) and cause.args:  # a KeyError's own text is in quotes
            cause = cause.args[0]
        message = str(cause) if cause is error else f"the config has no {cause}"
        if "Traceback (most recent call last)" in message:  # ml_collections repeats a config's: its last line says it
            first, last = message.split(": Error whilst parsing")[0], message.strip().splitlines()[-1]
            message = f"{first}: {last.partition(': ')[2] or last}"
        sys.exit(status_of(UserError(message)))


def _reporting(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    def reported(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:  # libraries tell a lot; --verbosity=0 shows it
            logging.set_verbosity(logging.ERROR)
        try:
            main(argv)
            sys.stdout.flush()
        except BrokenPipeError:
            _stop_printing()
        except (UserError, Stopped, KeyboardInterrupt) as error:
            sys.exit(status_of(error))
        except OSError as error:
            if not is_refused_write(error) or (error.errno in (errno.EACCES, errno.EPERM) and not error.filename):
                raise
            sys.exit(status_of(UserError(": ".join(filter(None, (error.filename, error.strerror or str(error)))))))

    return reported


def _stop_printing() -> NoReturn:
    """Whoever read the output, `head` for one, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def output_folder(path: str | None) -> Path | None:
    """The folder that --output names, if any, made if it isn't there. UserError if nothing can be written to it.

    To be called before anything is measured, so that no measurement is lost to such a folder.
    """
    if not path:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--output: {folder} can't be written: {error.strerror}") from error
    return folder


def status_of(error: BaseException) -> int:
    """Tells on standard error what ended a command, and returns its exit status.

    2: bad input, one line that names it; 75: stopped when asked to, start again to go on; 130: interrupted at the
    keyboard; 1: anything else, with its traceback.
    """
    told: dict[type[BaseException], tuple[int, str]] = {
        UserError: (2, f"error: {one_line(error)}"),
        Stopped: (75, f"stopped: {error}"),
        KeyboardInterrupt: (130, "interrupted"),
    }
    unexpected = (1, "".join(traceback.format_exception(error)).rstrip())
    status, line = next((how for kind, how in told.items() if isinstance(error, kind)), unexpected)
    sys.stderr.write(f"{line}\n")  # in one piece, as above
    sys.stderr.flush()
    return status


# Pages of 2 MiB; one arena, which may hold arrays of any size (the others stop at 64 MiB and map what is larger anew
# each time); and no memory handed back between steps, to be faulted in again by the next.
MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"
    ":glibc.malloc.mmap_threshold=4000000000:glibc.malloc.trim_threshold=8000000000"
)


def restart_with_fast_malloc() -> None:
    """Starts this process again, once, with an allocator that suits large arrays on a CPU.

    glibc (2.35 and newer) reads the setting only when a process starts. A GLIBC_TUNABLES of the user's own is kept.
    """
    if "GLIBC_TUNABLES" in os.environ or not _has_malloc_hugetlb():
        return
    os.environ["GLIBC_TUNABLES"] = MALLOC
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _has_malloc_hugetlb() -> bool:
    try:
        name, version = os.confstr("CS_GNU_LIBC_VERSION").split()  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return False
    return name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= (2, 35)
