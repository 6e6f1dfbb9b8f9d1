"""Tables of an evaluation on a terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(document: dict[str, Any]) -> None:
    """Print a document of `ncf evaluate --json` as a table for each protocol."""
    from ncf.evaluation.comparison import PROTOCOLS
    from ncf.evaluation.words import CLEAR, label, margin_text, scorers, settings_text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for protocol, title in PROTOCOLS.items():
        table = Table("")
        for header in (*document["model"][protocol], *(["coverage"] if protocol == "full" else [])):
            table.add_column(header, justify="right")
        for metric in ("HR@10", "NDCG@10"):
            table.add_column(f"ahead in {metric}", justify="right")
        for name in scorers(document):
            cells = [f"{value:.4f}" for value in document[name][protocol].values()]
            if protocol == "full":
                cells.append(f"{document['coverage'][name]:.4f}")
            for margin in document["margins"].get(name, {}).get(protocol, {}).values():
                weak = abs(margin["z"]) < CLEAR
                cells.append(f"[dim]{margin_text(margin)}[/dim]" if weak else margin_text(margin))
            table.add_row(label(document, name), *cells)
        console.print(f"{title} ({document['held_out']:,} items of {document['users']:,} users)")
        console.print(table)
    console.print(settings_text(document), soft_wrap=True)
