"""Ask a served `embedding` for the vectors of texts, and write each item's nearest known items as a feature.

TEXTS is a table (.tsv) with the columns item_id and text; the items of DATA, a CSV file of interactions, are known.
The output is for `ncf train --item-features` and `ncf export --new-items`.
"""

import json
import urllib.request
from pathlib import Path

import click
import numpy as np
import polars as pl

AT_ONCE = 64  # the encoder's max_batch_size
NEAREST = 10


@click.command(help=__doc__)
@click.argument("texts", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A Parquet file.")
@click.option("--url", default="http://127.0.0.1:8080/invocations", show_default=True)
def nearest(texts: Path, data: Path, output: Path, url: str) -> None:
    items = pl.read_csv(texts, separator="\t")
    parts = [ask(url, items["text"][start : start + AT_ONCE].to_list()) for start in range(0, len(items), AT_ONCE)]
    vector = np.concatenate(parts)
    known = np.flatnonzero(items["item_id"].is_in(pl.read_csv(data)["item_id"].unique().implode()))
    best = np.argsort(-vector @ vector[known].T, 1, kind="stable")[:, :NEAREST]  # a known item is its own nearest
    found = pl.Series([items["item_id"].gather(known[row]).to_list() for row in best])
    pl.DataFrame({"item_id": items["item_id"], "like": found}).write_parquet(output)
    click.echo(f"wrote the nearest of {len(known)} known items for {len(items)} items to {output}")


def ask(url: str, texts: list[str]) -> np.ndarray:
    """float32 [len(texts), D], of length 1"""
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [len(texts), 1], "data": texts}]
    body = json.dumps({"model": "embedding", "inputs": inputs}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:  # noqa: S310
        (output,) = json.load(answer)["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


if __name__ == "__main__":
    nearest()
