"""The exceptions that a user sees as a line rather than a traceback."""


class UserError(Exception):
    """Something the person at the keyboard can mend: its message names what is wrong, and where.

    The commands print it as one line on standard error and exit with status 2.
    """


class Stopped(Exception):
    """A run that was asked to stop (SIGTERM), and has saved all it did. The command exits with status 75."""
