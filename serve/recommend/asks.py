"""The fields of a request, each with its check and its JSON schema, and the kinds of requests, each with its fields.

The parser (`serve/recommend/parse.py`), its hints and the OpenAPI document all read these tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serve.errors import BadRequest, show

DEFAULT_K = 10
MAX_K = 10_000  # beyond the k of any export; a larger k is refused (plan.py), and counts as this much work
MAX_ID_CHARACTERS = 1024  # `ncf train` refuses longer ids
MAX_FLOAT = 2**53  # beyond it, neighbouring whole numbers are one float

RawId = int | str
# The answer to one request, as JSON writes it.
Answer = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A field of a request: the function that checks its value, its JSON schema, and its purpose."""

    read: Callable[[Any, str, int], Any]
    schema: Mapping[str, Any]
    help: str


@dataclass(frozen=True)
class Ask:
    """One kind of request: the field that identifies it, its required and optional fields, and an example."""

    summary: str
    lead: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    example: Mapping[str, Any]


def _without_point(value: float) -> int | float:
    """7 for 7.0: pandas makes floats of whole numbers."""
    return int(value) if value.is_integer() and abs(value) <= MAX_FLOAT else value


def raw_id(value: Any, field: str, max_items: int = 0) -> RawId:
    if type(value) is float:
        value = _without_point(value)
    kind = type(value)
    if kind is int or (kind is str and 0 < len(value) <= MAX_ID_CHARACTERS):
        raw: RawId = value
        return raw
    if kind is str and value:
        raise BadRequest(f"{field} has {len(value):,} characters; an id has at most {MAX_ID_CHARACTERS:,}")
    raise BadRequest(f"{field} is {show(value)}; an id is a text or a whole number")


def raw_ids(value: Any, field: str, max_items: int) -> tuple[RawId, ...]:
    if type(value) is not list:
        raise BadRequest(f"{field} is {show(value)}; it must be a list of item ids")
    if len(value) > max_items:
        raise BadRequest(f"{field} holds {len(value):,} ids; at most {max_items:,} are taken (SERVE_MAX_LIST_ITEMS)")
    return tuple([raw_id(each, f"{field}[{row}]") for row, each in enumerate(value)])


def some_raw_ids(value: Any, field: str, max_items: int) -> tuple[RawId, ...]:
    ids = raw_ids(value, field, max_items)
    if not ids:
        raise BadRequest(f"{field} is empty; it needs at least one item id")
    return ids


def whole_number(value: Any, field: str, max_items: int) -> int:
    if type(value) is float:
        value = _without_point(value)
    if type(value) is not int or value < 1:
        raise BadRequest(f"{field} is {show(value)}; it must be a whole number of at least 1")
    return value


def truth(value: Any, field: str, max_items: int) -> bool:
    if type(value) is not bool:
        raise BadRequest(f"{field} is {show(value)}; it must be true or false")
    return value


def names(value: Any, field: str, max_items: int) -> tuple[str, ...]:
    if type(value) is not list or not value or not all(type(name) is str for name in value):
        raise BadRequest(f'{field} is {show(value)}; it must be a list of columns such as ["title"]')
    return tuple(dict.fromkeys(value))


def conditions(value: Any, field: str, max_items: int) -> tuple[tuple[str, Any], ...]:
    if type(value) is not dict or not value:
        raise BadRequest(f'{field} is {show(value)}; it must be an object such as {{"category": "vegan"}}')
    for column, wanted in value.items():
        if not (wanted is None or type(wanted) in (str, int, float, bool)):
            raise BadRequest(f"{field}.{show(column)} is {show(wanted)}; give one text, number, true, false or null")
    return tuple(value.items())


_ID = {"type": ["string", "integer"]}
_IDS = {"type": "array", "items": _ID}

FIELDS: dict[str, Field] = {
    "model": Field(
        lambda value, field, most: value, {"type": "string"}, "The recommender; needed where several are served."
    ),
    "user_id": Field(raw_id, _ID, "A user, as in the data; a text or a whole number, and 7 and \"7\" are one id."),
    "item_id": Field(raw_id, _ID, "An item, as in the data."),
    "k": Field(whole_number, {"type": "integer", "minimum": 1, "default": DEFAULT_K}, "How many items to return."),
    "exclude_seen": Field(truth, {"type": "boolean", "default": True}, "Leave out what the user has, or the history."),
    "exclude": Field(raw_ids, _IDS, "Items that must not come back."),
    "allow": Field(some_raw_ids, {**_IDS, "minItems": 1}, "Only these items may come back."),
    "candidates": Field(some_raw_ids, {**_IDS, "minItems": 1}, "Items to put into order."),
    "history": Field(some_raw_ids, {**_IDS, "minItems": 1}, "Items a new user has had."),
    "where": Field(
        conditions,
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        },
        "Only items with these values in these columns of their metadata; where an item has several, with this one.",
    ),
    "with": Field(
        names,
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "Columns of the items' metadata to return.",
    ),
    "pairs": Field(
        lambda value, field, most: value,
        {
            "oneOf": [
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": ["object", "array"],
                        "properties": {"user_id": _ID, "item_id": _ID},
                        "required": ["user_id", "item_id"],
                        "additionalProperties": False,
                        "items": _ID,
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
                {
                    "type": "object",
                    "properties": {"user_id": {**_IDS, "minItems": 1}, "item_id": {**_IDS, "minItems": 1}},
                    "required": ["user_id", "item_id"],
                    "additionalProperties": False,
                },
            ]
        },
        "Pairs to score, as a list of objects or of [user_id, item_id], or as two columns of one length.",
    ),
}  # fmt: skip

CONDITIONS = ("k", "exclude_seen", "exclude", "allow", "where", "with")
ASKS = (
    Ask("The best items for a user", "user_id", ("user_id",), CONDITIONS, {"user_id": "u17", "k": 5}),
    Ask(
        "Given items in the order a user would like them",
        "candidates",
        ("user_id", "candidates"),
        ("k", "with"),
        {"user_id": "u17", "candidates": ["pizza-03", "soup-02"]},
    ),
    Ask("Scores of pairs", "pairs", ("pairs",), (), {"pairs": [{"user_id": "u17", "item_id": "pizza-03"}]}),
    Ask(
        "The best items for a new user",
        "history",
        ("history",),
        CONDITIONS,
        {"history": ["sushi-01", "sushi-05"], "k": 5},
    ),
    Ask(
        "Items like an item",
        "item_id",
        ("item_id",),
        tuple(name for name in CONDITIONS if name != "exclude_seen"),
        {"item_id": "sushi-01", "k": 5},
    ),
)
