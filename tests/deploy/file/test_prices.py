"""Costs come from the user's prices alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import UserError
from deploy.file.prices import cost, prices
from tests.deploy.support import IMAGE, SINGLE, check, written

SCALING = "scaling: {min: 1, max: 4, target: {metric: cpu_percent, value: 50}}\n"


def test_instances_cost_by_the_hour_from_one_end_of_their_range_to_the_other(tmp_path: Path) -> None:
    assert list(cost(check(tmp_path, SINGLE + SCALING).file, {"ml.c6i.xlarge": 0.2})) == [
        "AllTraffic: 2 × ml.c6i.xlarge at 0.2 an hour = 0.40",
        "together 0.40 an hour, 0.20 to 0.80 as it scales, by the prices given, without requests, storage and traffic",
    ]


def test_what_is_paid_by_request_has_no_price_an_hour(tmp_path: Path) -> None:
    file = check(tmp_path, f"name: food\nlambda: {{image: {IMAGE}}}\n").file
    assert list(cost(file, {})) == ["food is paid by request, which no price an hour tells"]


@pytest.mark.parametrize("price", ["cheap", "-1", "true", "[1]"])
def test_a_price_is_a_number(price: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"ml.c6i.xlarge: {price}\n", "prices.yaml")
    with pytest.raises(UserError, match=r"prices\.yaml:1: the price of ml\.c6i\.xlarge is"):
        prices(path)
