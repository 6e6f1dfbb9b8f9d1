from __future__ import annotations

import pytest

from ncf.errors import InputError
from ncf.files.reading import Reading


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"encoding": "klingon"}, "encoding is 'klingon', which is unknown; give one such as latin-1"),
        ({"encoding": "base64"}, "encoding is 'base64', which is unknown"),
        ({"min_weight": -1}, "min_weight is -1; it must be at least 0 and finite"),
        ({"min_weight": float("nan")}, "min_weight is nan"),
        ({"no_header": True}, "needs both --no-header and --columns"),
        ({"names": "a,b"}, "needs both --no-header and --columns"),
        ({"event_weights": "view"}, "event_weights has 'view'; give each event a weight above 0, such as view=1"),
        ({"event_weights": "view=0"}, "event_weights has 'view=0'"),
        ({"event_weights": "view=nan"}, "event_weights has 'view=nan'"),
        ({"event_weights": "=3"}, "event_weights has '=3'"),
        ({"half_life": "90"}, "half_life is '90'; give a number with h, d, w or y, such as 90d"),
        ({"half_life": "0d"}, "half_life is '0d'"),
    ],
)
def test_a_wrong_value_is_refused(reading: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Reading(**reading)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_values_are_understood() -> None:
    reading = Reading(event_weights="view=1, add to cart=2.5,a=b=3,", half_life="2w", separator="tab")
    assert reading.events == {"view": 1, "add to cart": 2.5, "a=b": 3}
    assert reading.half_life_days == 14
    assert reading.sign == "\t"
    assert reading.to_dict() == {"event_weights": reading.event_weights, "half_life": "2w", "separator": "tab"}
    assert Reading().to_dict() == {}
