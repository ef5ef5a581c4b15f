"""Exit codes of the command line, beside 0."""

STOPPED = 1  # the work cannot go on, or is not whole; what is there is kept
BAD_INPUT = 2  # as argparse
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # 128 + SIGINT, SIGPIPE, SIGTERM, as shells do


class Terminated(SystemExit):
    """SIGTERM came: another thing than an exit that code which we run asks for."""


def terminate(*_) -> None:
    """A signal's handler: by an exception, so that what is half-written is removed."""
    raise Terminated(TERMINATED)
