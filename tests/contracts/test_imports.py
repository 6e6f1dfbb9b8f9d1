"""What import-linter (pyproject.toml) cannot see: strings, and statements that run when a module is imported."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Triton's Python backend imports this file in a process of its own, never `serve`.
BACKENDS = ROOT / "serve" / "triton" / "backends"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("ncf", "serve", "deploy", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
    if BACKENDS not in path.parents and not path.is_relative_to(ROOT / "benchmarks" / "report")
}


def test_torchscript_is_known_in_one_room_only() -> None:
    rooms = {name.rpartition(".")[0] for name, path in MODULES.items() if "torch.jit" in path.read_text()}
    assert {room for room in rooms if room.startswith(("ncf", "serve"))} == {"ncf.export"}


def test_imports_are_absolute() -> None:
    """Relative imports hide the direction of an import from its reader."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.ImportFrom) or node.level == 0, f"{module}: {ast.unparse(node)}"


def test_nothing_happens_at_import() -> None:
    """A module consists of definitions, constants and imports; it neither reads the environment nor sets up logging."""
    for module, path in MODULES.items():
        if module.startswith("benchmarks.peers"):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.If):  # if __name__ == "__main__"
                assert ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING"), module
                continue
            if isinstance(node, ast.Expr):
                assert isinstance(node.value, ast.Constant), f"{module} does something at import: {ast.unparse(node)}"
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                text = ast.unparse(node.value)
                for forbidden in ("os.environ", "getenv", "basicConfig", "open("):
                    assert forbidden not in text, f"{module}: {text}"
