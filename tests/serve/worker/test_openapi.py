"""The OpenAPI document is valid, and says what the tables of the service say."""

from __future__ import annotations

from typing import Any

import pytest

from serve.errors import BadRequest
from serve.formats.registry import FORMATS
from serve.recommend.asks import ASKS
from serve.recommend.parse import parse_request
from serve.settings import Settings
from serve.worker.openapi import openapi_document

DOCUMENT = openapi_document(Settings.from_environment({}))


def check(schema: dict[str, Any], value: Any) -> None:
    """Against a part of the document, its references followed."""
    from jsonschema import Draft202012Validator  # it takes two seconds, so a process that does not ask does not wait

    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def request_schema() -> dict[str, Any]:
    schema: dict[str, Any] = DOCUMENT["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    return schema


def test_the_document_is_openapi() -> None:
    from openapi_spec_validator import validate

    validate(DOCUMENT)


def test_every_content_type_is_in_it() -> None:
    content = DOCUMENT["paths"]["/invocations"]["post"]["requestBody"]["content"]
    for format in FORMATS:
        assert set(format.content_types) <= set(content)
    answered = DOCUMENT["paths"]["/invocations"]["post"]["responses"]
    assert set(answered["200"]["content"]) == {format.content_types[0] for format in FORMATS}
    assert {"400", "404", "406", "413", "415", "500", "503"} <= set(answered)


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.summary)
def test_examples_are_requests(ask: Any) -> None:
    check(request_schema(), ask.example)
    check(request_schema(), {"requests": [ask.example], "model": "m"})
    assert parse_request(ask.example, 10)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"user_id": 1.5},
        {"user_id": "u", "k": 0},
        {"user_id": "u", "kk": 1},
        {"user_id": "u", "where": {"c": ["a"]}},
        {"user_id": "u", "allow": []},
        {"user_id": "u", "history": ["a"]},
        {"history": []},
        {"candidates": ["a"]},
        {"item_id": "a", "exclude_seen": True},
        {"pairs": []},
        {"pairs": [{"user_id": "u"}]},
        {"pairs": [{"user_id": "u", "item_id": "i", "x": 1}]},
        {"pairs": {"user_id": [], "item_id": []}},
    ],
)
def test_what_the_parser_refuses_the_schema_refuses(document: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    with pytest.raises(BadRequest):
        parse_request(document, 10)
    with pytest.raises(ValidationError):
        check(request_schema(), document)
