"""From two generated catalogues to two served recommenders: train, export, serve, ask, show the answers.

Data, trained runs and exported models of an earlier run (`.demo/`, `model_repository/`) are used again. `make clean`
deletes `.demo/`; models are deleted by hand.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click
import polars as pl
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".demo"
REPOSITORY = ROOT / "model_repository"
BIN = Path(sys.executable).parent
CATALOGUES = ("food", "fashion")
START_SECONDS = 120
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--keep-running", is_flag=True, help="Serve until Ctrl-C instead of stopping after the questions.")
@click.option("--port", default=8080, show_default=True, envvar="SAGEMAKER_BIND_TO_PORT", help="Port on 127.0.0.1.")
def demo(keep_running: bool, port: int) -> None:
    """Train two models, serve them behind /ping and /invocations, ask both and show the answers.

    \b
    Examples:
      make demo
      make serve SAGEMAKER_BIND_TO_PORT=8081
    """
    require_free(port)
    for number in (signal.SIGTERM, signal.SIGHUP):  # treated like Ctrl-C, so that the server is stopped as well
        signal.signal(number, signal.default_int_handler)
    for name in CATALOGUES:
        prepare(name)
    began = time.monotonic()
    server = start_server(port)
    try:
        wait_for_ping(server, port)
        step(f"serve is ready after {time.monotonic() - began:.1f} s")
        ask_and_show(f"http://127.0.0.1:{port}/invocations")
        if keep_running:
            step("still serving: paste a curl line into another terminal; stop with Ctrl-C")
            while server.poll() is None:  # not wait(): with Polars loaded a signal does not end it
                time.sleep(0.2)
        else:
            step("`make serve` keeps it running, so that the curl lines can be pasted")
    except KeyboardInterrupt:
        step("stopping")
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        code = server.wait(40)
    step(f"serve has stopped with exit code {code}")
    sys.exit(code)


def step(text: str) -> None:
    console.print(f"[bold]==[/bold] {text}")


def prepare(name: str) -> None:
    """Make data, run and export of one catalogue, each only if it does not exist."""
    data, run, model = WORK / f"{name}.csv", WORK / f"run_{name}", f"ncf_{name}_model"
    if not data.exists():
        ncf("sample", name, "--output", data)
    if not (run / "result.json").exists():
        ncf("train", "--data", data, "--output", run)
        ncf("evaluate", "--run", run, "--data", data)
    if not any((REPOSITORY / f"{model}_query").glob("*/model.pt")):
        items = WORK / f"{name}_items.csv"
        describe_items(data, items)
        ncf("export", "--run", run, "--repository", REPOSITORY, "--name", model, "--items", items)
    else:
        step(f"{model} is there already")


def describe_items(data: Path, target: Path) -> None:
    """A title and a category for every item of a catalogue: sushi-07 is 'Sushi no. 7', of category sushi."""
    items = pl.read_csv(data).select(pl.col("item_id").unique().sort())
    part = pl.col("item_id").str.split("-").list
    number = part.last().str.strip_chars_start("0")
    items.with_columns(
        title=pl.format("{} no. {}", part.first().str.to_titlecase(), number), category=part.first()
    ).write_csv(target)


def ncf(*arguments: object) -> None:
    words = ["ncf", *map(str, arguments)]
    step(shlex.join(word.replace(f"{ROOT}/", "") for word in words))
    ended = subprocess.run([BIN / "ncf", *words[1:]], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def start_server(port: int) -> subprocess.Popen[bytes]:
    mine = {
        "SERVE_MODEL_REPOSITORY": str(REPOSITORY),
        "SERVE_BIND_ADDRESS": "127.0.0.1",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    step(" ".join(f"{key}={value.replace(f'{ROOT}/', '')}" for key, value in mine.items()) + " serve")
    # The server gets its own session, so that Ctrl-C reaches this script only, which stops it and shows its exit code.
    return subprocess.Popen([BIN / "serve"], env={**os.environ, **mine}, start_new_session=True)


def require_free(port: int) -> None:
    """Another server on the port would answer in place of ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            step(f"port {port} is in use; stop its program, or: make demo SAGEMAKER_BIND_TO_PORT={port + 1}")
            sys.exit(2)


def wait_for_ping(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            step("serve ended before it was ready; its last lines above say why")
            sys.exit(server.returncode or 1)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    step(f"/ping did not answer 200 within {START_SECONDS} s")
    sys.exit(1)


def ask(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Print the question as a curl line, ask it, return the answer."""
    text = json.dumps(body)
    console.print(f"\ncurl -d {shlex.quote(text)} {url}", soft_wrap=True, style="cyan")
    with urllib.request.urlopen(urllib.request.Request(url, text.encode()), timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def ask_and_show(url: str) -> None:
    for name, user in (("food", "u17"), ("fashion", 42)):
        answer = ask(url, {"model": f"ncf_{name}_model", "user_id": user, "k": 5})
        show(answer, f"{answer['model_name']} for {user} ({answer['reason']}); has had {history(name, user)}")
    answer = ask(
        url, {"model": "ncf_food_model", "user_id": "u17", "k": 3, "where": {"category": "soup"}, "with": ["title"]}
    )
    show(answer, "the same user, soups only, with their titles")
    answer = ask(url, {"model": "ncf_food_model", "history": ["sushi-01", "sushi-05", "poke-02"], "k": 3})
    show(answer, f"a new user, whom the model was not trained with ({answer['reason']})")
    answer = ask(url, {"model": "ncf_fashion_model", "item_id": "boots-01", "k": 3})
    show(answer, f"items like boots-01 ({answer['reason']})")
    answer = ask(url, {"model": "ncf_food_model", "user_id": "nobody", "k": 3})
    show(answer, f"{answer['message']} ({answer['reason']})")
    pairs = [{"user_id": "u17", "item_id": item} for item in ("dumpling-01", "salad-01")]
    answer = ask(url, {"model": "ncf_food_model", "pairs": pairs})
    table = Table("user_id", "item_id", "score")
    for pair, score in zip(pairs, answer["scores"], strict=True):
        table.add_row(pair["user_id"], pair["item_id"], f"{score:.3f}")
    console.print(table)


def history(name: str, user: str | int) -> str:
    """The groups of items that a user has had most; the generated taste, which the answer should match."""
    frame = pl.read_csv(WORK / f"{name}.csv", infer_schema=False).filter(pl.col("user_id") == str(user))
    groups = frame["item_id"].str.split("-").list.first().value_counts(sort=True).head(3)
    return ", ".join(f"{count} × {group}" for group, count in groups.iter_rows())


def show(answer: dict[str, Any], title: str) -> None:
    console.print(title, soft_wrap=True)
    names = list(answer["recommendations"][0])
    table = Table("", *names)
    for place, item in enumerate(answer["recommendations"], start=1):
        table.add_row(str(place), *(f"{item[name]:.3f}" if name == "score" else str(item[name]) for name in names))
    console.print(table)


if __name__ == "__main__":
    demo()
