"""So that nothing is lost: a training removes only files of its own, and a signal does not interrupt its writing."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)


class OwnFiles:
    """The files and folders that this process made; `remove` touches nothing else."""

    def __init__(self) -> None:
        self.files: set[Path] = set()
        self.folders: list[Path] = []

    def make_folder(self, path: Path) -> None:
        """Make a folder and its missing parents. Raises OSError."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        self.folders += reversed(missing)

    def claim(self, path: Path) -> bool:
        """Call it before each write of a file; False if the file existed before this process wrote it."""
        if path not in self.files and (path.exists() or path.is_symlink()):
            return False
        self.files.add(path)
        return True

    def set_aside(self, path: Path) -> Path | None:
        """Give a file that this process did not write another name, which is returned; None if there is none."""
        if self.claim(path) or path in self.files:
            return None
        kept = path.with_name(f"{path.name}.{secrets.token_hex(4)}.kept")
        path.rename(kept)
        self.files.add(path)
        return kept

    def remove(self, inside: Path | None = None) -> None:
        """Remove what this process made (in the folder `inside` only); a folder with other files in it stays."""
        for file in [file for file in self.files if inside is None or inside in file.parents]:
            file.unlink(missing_ok=True)
            self.files.discard(file)
        for folder in reversed(self.folders):
            if inside is None or folder == inside or inside in folder.parents:
                with suppress(OSError):
                    folder.rmdir()


@contextmanager
def undisturbed(what: str) -> Iterator[list[int]]:
    """Context manager: SIGTERM and Ctrl-C do not interrupt its body; they are added to the list, and logged at the end.

    Python delivers signals to the main thread only, so in other threads it does nothing.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for noted in received:
            log.info("%s came while %s was finished", signal.Signals(noted).name, what)
