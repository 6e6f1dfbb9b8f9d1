"""Interactions of files, as `load_split` reads them before it splits."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from ncf.data.interactions import Interactions
from ncf.data.load import read_interactions
from ncf.files.reading import Columns, Reading
from ncf.files.source import open_source


def read(*paths: Path, columns: Columns | None = None, **reading: object) -> Interactions:
    with TemporaryDirectory() as scratch:
        source = open_source(paths, columns or Columns(), Reading(**reading), Path(scratch))  # type: ignore[arg-type]
        return read_interactions(source)[0]


ROWS = [(user, item, (user * item) % 5 + 1, 1_600_000_000 + 86_400 * (7 * user + item))
        for user in range(12) for item in range(user % 4, 20, 2)]  # fmt: skip
NAMES = ["user_id", "item_id", "weight", "timestamp"]


def text_of(rows: list[tuple[object, ...]], sign: str = ",", names: list[str] | None = NAMES) -> str:
    return "".join(sign.join(map(str, row)) + "\n" for row in [*([names] if names else []), *rows])


def put(folder: Path, files: dict[str, str | bytes]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [folder / name for name in files]
