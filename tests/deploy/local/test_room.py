"""A rehearsal that grows into a platform is a mistake."""

from __future__ import annotations

import ast
import tokenize
from pathlib import Path

ROOM = Path(__file__).parents[3] / "deploy" / "local"
SPACE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def lines_of_code(path: Path) -> int:
    """Neither blank, nor comment, nor docstring."""
    with path.open() as file:
        tokens = [token for token in tokenize.generate_tokens(file.readline) if token.type not in SPACE]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            assert node.body[0].end_lineno
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_it_stays_under_1500_lines_of_code() -> None:
    assert sum(map(lines_of_code, ROOM.glob("*.py"))) < 1500
