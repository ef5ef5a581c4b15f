"""Exit codes of the command line other than 0."""

STOPPED = 1  # the work cannot continue, or is incomplete; what is done is kept
BAD_INPUT = 2  # as argparse
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # 128 + SIGINT, SIGPIPE, SIGTERM, as shells do


class Terminated(SystemExit):
    """Raised on SIGTERM, to tell it from a SystemExit raised by the code we run."""


def terminate(*_: object) -> None:
    """Handle a signal by raising Terminated, so that half-written files are removed on the way out."""
    raise Terminated(TERMINATED)
