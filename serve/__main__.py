"""The `serve` verb."""

import signal
import sys


def main() -> None:
    # Set before more is imported: process 1 of a container does not get SIGTERM as long as it has no handler for it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    from serve.supervisor.command import serve

    serve()


if __name__ == "__main__":
    main()
