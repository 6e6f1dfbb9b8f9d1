"""Tables of an evaluation on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

LISTED = ("Recall@20", "NDCG@20", "Recall@10", "NDCG@10", "MAP@10")  # as many as fit beside the leads


def print_tables(document: dict[str, Any]) -> None:
    """Print what matters most of a document of `ncf evaluate --json`: a table for each protocol, and one beyond."""
    from ncf.evaluation.words import BEYOND, HEADLINES, PROTOCOLS, label, protocols, scorers, settings_text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    shown = protocols(document)
    for protocol in shown:
        metrics = LISTED if protocol == "lists" else list(document["model"][protocol])
        table = table_of([*metrics, *(f"ahead in {metric}" for metric in HEADLINES[protocol])])
        for name in scorers(document):
            cells = [f"{document[name][protocol][metric]:.4f}" for metric in metrics]
            margins = document["margins"].get(name, {}).get(protocol)
            leads = [lead(margins[metric]) for metric in HEADLINES[protocol]] if margins else []
            table.add_row(label(document, name), *cells, *leads)
        console.print(f"{PROTOCOLS[protocol]} ({document['held_out']:,} items of {document['users']:,} users)")
        console.print(table)
    if shown:
        table = table_of(BEYOND)
        for name in scorers(document):
            table.add_row(label(document, name), *(f"{document[name]['lists'][metric]:.4f}" for metric in BEYOND))
        console.print("what the top 10 of these users are like")
        console.print(table)
    console.print(settings_text(document), soft_wrap=True)


def table_of(headers: Iterable[str]) -> Table:
    table = Table("")
    for header in headers:
        table.add_column(header, justify="right")
    return table


def lead(margin: dict[str, Any]) -> str:
    """A lead with its interval, dim if it may be chance."""
    from ncf.evaluation.words import is_clear, margin_text

    return margin_text(margin) if is_clear(margin) else f"[dim]{margin_text(margin)}[/dim]"
