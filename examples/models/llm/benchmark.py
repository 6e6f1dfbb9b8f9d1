"""Ask a served `llm` for the same continuations one after the other and all at once, and print tokens a second."""

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import click


@click.command(help=__doc__)
@click.option("--url", default="http://127.0.0.1:8080", show_default=True)
@click.option("--model", default="llm", show_default=True)
@click.option("--requests", default=32, show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Of each answer, at most.")
@click.option("--rounds", default=5, show_default=True)
def benchmark(url: str, model: str, requests: int, tokens: int, rounds: int) -> None:
    def ask(number: int) -> int:
        asked = {"model": model, "prompt": "the model " * (1 + number % 8), "max_tokens": tokens, "seed": number}
        sent = urllib.request.Request(f"{url}/v1/completions", json.dumps(asked).encode())  # noqa: S310
        with urllib.request.urlopen(sent, timeout=600) as answer:  # noqa: S310
            return int(json.load(answer)["usage"]["completion_tokens"])

    ask(0)
    found: dict[int, list[float]] = {1: [], requests: []}
    for _ in range(rounds):  # in turns, so that other work on the machine falls on both
        for at_once, rates in found.items():
            with ThreadPoolExecutor(at_once) as threads:
                began = time.perf_counter()
                made = sum(threads.map(ask, range(requests)))
                rates.append(made / (time.perf_counter() - began))
    for at_once, rates in found.items():
        each = ", ".join(f"{rate:,.0f}" for rate in rates)
        click.echo(f"{at_once:3} at once: {sorted(rates)[len(rates) // 2]:7,.0f} tokens/s (median of {each})")


if __name__ == "__main__":
    benchmark()
