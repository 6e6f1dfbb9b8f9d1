"""A file of prices that the user gives: nothing is known of prices here, because they differ by region and contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploy.errors import UserError
from deploy.file.endpoint import EndpointFile
from deploy.file.source import read


def prices(path: Path) -> dict[str, float]:
    """Price an hour by instance type: `ml.c6i.xlarge: 0.238`. Raises UserError for anything else."""
    source = read(path)
    for name, price in source.document.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
            raise UserError(f"{source.where((name,))}: the price of {name} is {price}; it is a number an hour")
    return {str(name): float(price) for name, price in source.document.items()}


def cost(file: EndpointFile, known: dict[str, float]) -> Iterator[str]:
    """What the instances cost an hour, at the start and at the ends of their range."""
    if not any(hosted.instances for hosted in file.everything_hosted):
        yield f"{file.name} is paid by request, which no price an hour tells"
        return
    least = most = now = 0.0
    for hosted in file.everything_hosted:
        if hosted.instances is None:
            yield f"{hosted.name}: paid by request, which no price an hour tells"
            continue
        price = known.get(hosted.instances.type)
        if price is None:
            raise UserError(f"the prices have no {hosted.instances.type}; add {hosted.instances.type}: PRICE_AN_HOUR")
        count = hosted.instances.count
        low, high = (hosted.scaling.min, hosted.scaling.max) if hosted.scaling else (count, count)
        now, least, most = now + count * price, least + low * price, most + high * price
        yield f"{hosted.name}: {count} × {hosted.instances.type} at {price:g} an hour = {count * price:.2f}"
    spread = "" if least == most else f", {least:.2f} to {most:.2f} as it scales"
    yield f"together {now:.2f} an hour{spread}, by the prices given, without requests, storage and traffic"
