"""The `serve` verb."""

import signal
import sys


def main() -> None:
    # Before more is imported: the kernel keeps SIGTERM from process 1 of a container until that has a handler for it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    from serve.supervisor.command import serve

    serve()


if __name__ == "__main__":
    main()
