"""The exceptions that a user sees as a line rather than a traceback."""

import errno
import os


class UserError(Exception):
    """Something the person at the keyboard can mend: its message names what is wrong, and where.

    The commands print it as one line on standard error and exit with status 2.
    """


class Diverged(UserError):
    """A run whose loss, gradient or parameters are no longer finite: the same config would end there again."""


class Stopped(Exception):
    """A run that was asked to stop (SIGTERM, Ctrl-C), and has saved all it did. The command exits with status 75."""


_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def is_refused_write(error: BaseException) -> bool:
    """Whether a disk is full or closed to the user, as libraries tell it: by its number, or in their text.

    What else goes wrong while writing, such as a lost connection or process, isn't for the user to mend.
    """
    return getattr(error, "errno", None) in _REFUSALS or any(os.strerror(number) in str(error) for number in _REFUSALS)


def one_line(error: BaseException) -> str:
    """What an exception says, on one line, or its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
