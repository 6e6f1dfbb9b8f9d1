"""The report: one HTML file with tables and plots, which loads nothing from elsewhere."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncf.errors import InputError
from ncf.evaluation.words import (
    BEYOND,
    HEADLINES,
    PROTOCOLS,
    interval_text,
    is_clear,
    label,
    margin_text,
    protocols,
    scorers,
    settings_text,
)

if TYPE_CHECKING:
    from ncf.evaluation.plots import Plot

FIGURES = '<script type="application/json" id="figures">'  # in every report, and in no other page


def check_writable(path: Path) -> None:
    """Raises InputError if the name does not end in .html, the file cannot be written, or matplotlib is missing.

    An earlier report is replaced, any other page is refused.
    """
    if find_spec("matplotlib") is None:
        raise InputError("--report draws with matplotlib, which is not installed here: pip install -r requirements.txt")
    if path.suffix.lower() != ".html":
        raise InputError(f"--report {path}: a report is an HTML file; give a name that ends in .html")
    try:
        if path.exists() or path.is_symlink():
            path.open("ab").close()
            there = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            if there and FIGURES not in there:
                raise InputError(f"--report {path} exists and is no report of `ncf evaluate`; choose another file")
        else:
            path.open("xb").close()
            path.unlink()
    except OSError as error:
        raise InputError(f"--report {path} cannot be written: {error.strerror}; choose another file") from error


def write_report(
    path: Path,
    document: dict[str, Any],
    epochs: Sequence[dict[str, Any]],
    about: dict[str, str],
    config: dict[str, Any],
) -> None:
    """Write the page on a document of `ncf evaluate --json` (see `page`). Raises InputError if that fails."""
    try:
        path.write_text(page(document, epochs, about, config), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--report {path} cannot be written: {error.strerror}; choose another file") from error


def page(
    document: dict[str, Any], epochs: Sequence[dict[str, Any]], about: dict[str, str], config: dict[str, Any]
) -> str:
    """The HTML: a verdict, the summary, the plots, the figures behind them, and the settings of the run.

    `epochs` are the lines of metrics.jsonl; `about` names the run, the data and the time of the evaluation.
    """
    from ncf.evaluation.plots import draw

    title = f"{document['model_kind']} on {Path(about['data']).name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=about>{document['held_out']:,} held-out items of {document['users']:,} users. "
        + " · ".join(f"{escape(key)}: <code>{escape(value)}</code>" for key, value in about.items())
        + "</p>",
        "<h2>In short</h2><ul>",
        *(f"<li>{sentence}</li>" for sentence in verdict(document)),
        "</ul>",
    ]
    shown = protocols(document)
    parts += [
        f"<h2>{escape(sentence_case(PROTOCOLS[protocol]))}</h2>{summary_table(document, protocol)}"
        for protocol in shown
    ]
    if shown:
        parts.append(f"<h2>What the top 10 of these users are like</h2>{beyond_table(document)}")
    parts.append(
        "<p class=note>“Ahead” is the model's lead over the baseline of that row, the difference of their figures, ± "
        "half of its 95 % confidence interval, from a paired test in which the held-out items of a user are one "
        "observation; a lead whose interval holds 0 (set in grey) may be chance. A tie counts against the scorer. "
        "Coverage: share of the catalogue in the top 10 of any user. Gini: 0 if these places are divided equally among "
        "all items, towards 1 if few items have them all. Novelty: mean of −log2 of the share of users who have an "
        "item, in bits. Diversity: one minus the mean cosine of the model's vectors of two items of a list. "
        f"{escape(settings_text(document))}.</p><h2>Plots</h2>"
        "<div class=plots>"
    )
    parts += [figure(plot) for plot in draw(document, epochs)]
    parts.append("</div>")
    if not epochs:
        parts.append("<p class=note>The run has no figures of its epochs.</p>")
    parts.append("<h2>Figures behind the plots</h2>")
    for protocol in shown:
        parts += detail_tables(document, protocol)
    settings = (
        f"<div>{escape(key.replace('_', ' '))} <b>{escape(str(value))}</b></div>" for key, value in config.items()
    )
    parts.append(f"<h2>Settings of the run</h2><div class=settings>{''.join(settings)}</div>")
    everything = json.dumps(document).replace("</", "<\\/")
    parts.append(f"{FIGURES}{everything}</script>")
    return whole(title, parts)


def whole(title: str, parts: Sequence[str]) -> str:
    """A page of HTML whose style is that of all our pages; `parts` are its body."""
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def verdict(document: dict[str, Any]) -> list[str]:
    """A sentence for each protocol: the model against the best baseline by NDCG."""
    sentences = []
    words = {"sampled": "Sampled negatives", "full": "Whole catalogue", "lists": "Lists of users"}
    for protocol in protocols(document):
        metric = HEADLINES[protocol][1]
        figures = {name: document[name][protocol][metric] for name in scorers(document)}
        best = max((name for name in figures if name != "model"), key=lambda name: figures[name])
        margin = document["margins"][best][protocol][metric]
        if not is_clear(margin):
            judged = "no clear difference"
        else:
            judged = "the model is ahead" if margin["difference"] > 0 else "<strong>the model is behind</strong>"
        sentences.append(
            f"{words[protocol]}: {metric} {figures['model']:.4f} against {figures[best]:.4f} of the best "
            f"baseline, {label(document, best)}; {judged} ({margin_text(margin)})."
        )
    return sentences


def summary_table(document: dict[str, Any], protocol: str) -> str:
    metrics = [metric for metric in document["model"][protocol] if metric not in BEYOND]
    names = scorers(document)
    best = {metric: max(document[name][protocol][metric] for name in names) for metric in metrics}
    header = ["", *metrics, *(f"ahead in {metric}" for metric in HEADLINES[protocol])]
    rows = []
    for name in names:
        cells = [escape(label(document, name))]
        for metric in metrics:
            value = document[name][protocol][metric]
            cells.append(f"<b>{value:.4f}</b>" if value == best[metric] else f"{value:.4f}")
        margins = document["margins"].get(name, {}).get(protocol)
        leads = [shade(margins[metric], margin_text) for metric in HEADLINES[protocol]] if margins else ["", ""]
        rows.append([*cells, *leads])
    return table(header, rows)


def beyond_table(document: dict[str, Any]) -> str:
    """Coverage, Gini, novelty and diversity; nothing is best, because more is not always better."""
    rows, compared = [], ("novelty", "diversity")
    for name in scorers(document):
        margins = document["margins"].get(name, {}).get("lists")
        more = [shade(margins[metric], margin_text) for metric in compared] if margins else ["", ""]
        rows.append(
            [escape(label(document, name)), *(f"{document[name]['lists'][each]:.4f}" for each in BEYOND), *more]
        )
    return table(["", *BEYOND, *(f"ahead in {metric}" for metric in compared)], rows)


def leads_table(document: dict[str, Any], protocol: str) -> str:
    """The model's lead over each baseline in every metric."""
    names = [name for name in scorers(document) if name != "model"]
    margins = {name: document["margins"][name][protocol] for name in names}
    rows = [
        [escape(metric), *(shade(margins[name][metric], interval_text) for name in names)]
        for metric in margins[names[0]]
    ]
    return table(["lead over", *(label(document, name) for name in names)], rows)


def shade(margin: dict[str, Any], text: Callable[[dict[str, Any]], str]) -> str:
    """The text of a margin, grey if it may be chance."""
    return f"<span{'' if is_clear(margin) else ' class=weak'}>{text(margin)}</span>"


def sentence_case(text: str) -> str:
    return text[0].upper() + text[1:]


def detail_tables(document: dict[str, Any], protocol: str) -> Iterable[str]:
    """The leads, the curves over K and the groups of one protocol, in tables that the reader can unfold."""
    names = scorers(document)
    yield folded(f"Leads with their 95 % intervals, {protocol}", leads_table(document, protocol))
    for metric, curve in document["by_k"]["model"][protocol].items():
        rows = [
            [
                escape(label(document, name)),
                *(f"{value:.4f}" for value in document["by_k"][name][protocol][metric].values()),
            ]
            for name in names
        ]
        yield folded(f"{metric}@K, {protocol}", table(["K", *curve], rows))
    for key, what in (
        ("by_user_activity", "interactions of the user"),
        ("by_item_popularity", "interactions of the item"),
    ):
        groups = document[key]["model"][protocol]
        for metric in HEADLINES[protocol]:
            counted, word = ("users", "users") if protocol == "lists" else ("held_out", "held-out items")
            rows = [[word, *(f"{group[counted]:,}" for group in groups)]]
            rows += [
                [escape(label(document, name)), *(f"{group[metric]:.4f}" for group in document[key][name][protocol])]
                for name in names
            ]
            header = [what, *(f"{group['from']:,}–{group['to']:,}" for group in groups)]
            yield folded(f"{metric} by {what}, {protocol}", table(header, rows))


def figure(plot: Plot) -> str:
    """A plot with its title; browsers in dark mode show the dark picture."""
    title = escape(plot.title)
    return (
        f'<figure><figcaption>{title}</figcaption><picture><source srcset="{uri(plot.dark)}" '
        'media="screen and (prefers-color-scheme: dark)">'
        f'<img src="{uri(plot.light)}" alt="{title}"></picture></figure>'
    )


def folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells of `rows` are HTML, those of `header` text."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def uri(png: bytes) -> str:
    return "data:image/png;base64," + b64encode(png).decode()


STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6777; --line: #d9dee5; --paper: #fff; --card: #fff; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa6b5; --line: #363d48; --paper: #14181e; --card: #1a1f27; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: .5rem 0; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
code { overflow-wrap: anywhere; }
.about, .note, .weak { color: var(--soft); }
.note { font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .875em; }
th:first-child, td:first-child { text-align: left; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
figure { margin: 0; padding: .75rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--card);
  break-inside: avoid; }
figcaption { margin-bottom: .5rem; font-weight: 600; font-size: .9rem; }
img { display: block; width: 100%; height: auto; }
.settings { columns: 14rem; }
summary { padding: .3rem 0; cursor: pointer; }
details .wide { margin: 0 0 1rem; }
@media (max-width: 40rem) { table { font-size: .8125rem; } th, td { padding-right: .5rem; } }
@media print {
  body { padding: 0; max-width: none; font-size: 12px; }
  table { font-size: 11px; }
  .wide { overflow: visible; }
  .plots { grid-template-columns: 1fr 1fr; }
  h2 { break-after: avoid; }
  details { display: none; }
}
"""
