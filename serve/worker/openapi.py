"""The OpenAPI document, built from the tables that the service itself uses: asks, fields, formats, errors."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from serve import errors
from serve.formats.registry import FORMATS, TRITON_CONTENT_TYPES
from serve.recommend.asks import ASKS, FIELDS, Ask
from serve.settings import Settings

Schema = dict[str, Any]

RAW_ID: Schema = {"type": ["string", "integer"]}
STRING: Schema = {"type": "string"}
ANSWERED: Schema = {"model_name": STRING, "model_version": STRING, "request_id": STRING, "message": STRING}

ABOUT_FORMATS = {
    "JSON": "One request, or many as {\"requests\": [...]}; answered in the same form.",
    "JSON Lines": "A request a line, an answer a line, in order; a line that cannot be answered holds its error.",
    "CSV": "With or without a header. user_id,item_id: a score a line. user_id or item_id, each with or without k: the "
    "recommendations of a row on a line, as item_id,score,item_id,score and so on.",
    "NPY": "int64 [B, 2], rows of user_index and item_index as the model counts them; answered by float32 [B], NaN for "
    "an index outside the data. Recommendations are a structured array [k] of item_id and score.",
}  # fmt: skip


def _object(properties: Schema, required: tuple[str, ...], **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


RESPONSES: dict[str, Schema] = {
    "Recommendations": _object(
        {
            **ANSWERED,
            "reason": {
                "enum": ["personal", "history", "similar", "popular"],
                "description": "popular: the user, or every item the request builds on, is unknown.",
            },
            "recommendations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"item_id": RAW_ID, "score": {"type": "number"}},
                    "required": ["item_id"],
                    "additionalProperties": {
                        "type": ["string", "number", "boolean", "null", "array"],
                        "items": {"type": ["string", "number", "boolean"]},
                    },
                },
                "description": "Best first. An unknown candidate comes last and has no score.",
            },
            "unknown_items": {
                "type": "array",
                "items": RAW_ID,
                "description": "Items of the request that the model does not know.",
            },
        },
        ("model_name", "model_version", "request_id", "reason", "recommendations"),
    ),
    "Scores": _object(
        {
            **ANSWERED,
            "scores": {
                "type": "array",
                "items": {"type": ["number", "null"]},
                "description": "In the order of the pairs; null where an id is unknown.",
            },
            "unknown": {
                "type": "array",
                "items": _object({"row": {"type": "integer"}, "message": STRING}, ("row", "message")),
            },
        },
        ("model_name", "model_version", "request_id", "scores"),
    ),
    "Failed": _object(
        {"error": _object({"code": STRING, "message": STRING}, ("code", "message")), "request_id": STRING},
        ("error", "request_id"),
        description="Stands in the place of one of several requests that could not be answered.",
    ),
    "Error": _object({"error": STRING, "code": STRING}, ("error", "code")),
}


def openapi_document(settings: Settings) -> Schema:
    """The document of this service, OpenAPI 3.1."""
    try:
        number = version("ncf-triton")
    except PackageNotFoundError:
        number = "unknown"
    failures = {str(error.status): _failure(error) for error in reversed(_all_errors())}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ncf-triton",
            "version": number,
            "description": "Recommendations by Neural Collaborative Filtering models on a Triton Inference Server.",
        },
        "paths": {
            "/invocations": {
                "post": {
                    "summary": "Ask a recommender",
                    "description": f"Bodies of up to {settings.max_body_bytes:,} bytes, also in gzip or deflate; "
                    f"lists of up to {settings.max_list_items:,} ids.",
                    "requestBody": {"required": True, "content": _request_content()},
                    "responses": {
                        "200": {"description": "The answer, in the format that Accept asks for", "content": _content()},
                        **failures,
                    },
                }
            },
            "/ping": {
                "get": {
                    "summary": "Whether the service can answer requests",
                    "responses": {"200": {"description": "It can"}, "503": failures["503"]},
                }
            },
            "/v1/chat/completions": _openai(
                "Ask a language model for the next message of a chat", "messages", failures
            ),
            "/v1/completions": _openai("Ask a language model to continue a text", "prompt", failures),
            "/v1/models": _control("The language models, as OpenAI lists models"),
            "/models": _control("The models that are loaded, and the reason for each that is not"),
            "/metrics": _control("Metrics in Prometheus' text format", "text/plain"),
            "/execution-parameters": _control("The limits of a batch-transform job"),
            "/openapi.json": _control("This document"),
        },
        "components": {"schemas": {**{_name(ask): _ask_schema(ask) for ask in ASKS}, **RESPONSES}},
    }


def _name(ask: Ask) -> str:
    return "".join(word.capitalize() for word in ask.summary.split())


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _ask_schema(ask: Ask) -> Schema:
    names = (*ask.required, *ask.optional, "model")
    properties = {name: {**FIELDS[name].schema, "description": FIELDS[name].help} for name in names}
    return _object(properties, ask.required, description=ask.summary, examples=[ask.example])


def _request_content() -> Schema:
    one = {"anyOf": [_reference(_name(ask)) for ask in ASKS]}
    requests = {"type": "array", "minItems": 1, "items": one}
    rows = {"anyOf": [requests, FIELDS["pairs"].schema["oneOf"][0]]}  # as other containers take them
    many = [
        _object({"requests": requests, "model": STRING}, ("requests",)),
        _object({"instances": rows, "model": STRING}, ("instances",)),
        rows,
    ]
    kserve = {
        "type": "object",
        "properties": {"inputs": {"type": "array", "items": {"type": "object"}}, "model": STRING},
        "required": ["inputs"],
        "description": "A KServe-v2 request, passed through to Triton under any content type.",
    }
    examples = {_name(ask): {"summary": ask.summary, "value": ask.example} for ask in ASKS}
    content: Schema = {}
    for format in FORMATS:
        about = {"description": ABOUT_FORMATS[format.name]}
        for content_type in format.content_types:
            content[content_type] = {"schema": about}
    content["application/json"] = {
        "schema": {"anyOf": [*one["anyOf"], *many, kserve], "description": ABOUT_FORMATS["JSON"]},
        "examples": examples,
    }
    for content_type in TRITON_CONTENT_TYPES:
        content[f"{content_type};json-header-size=N"] = {
            "schema": {"description": "A KServe-v2 request in Triton's binary form: N bytes of JSON, then raw tensors."}
        }
    return content


def _content() -> Schema:
    one = [_reference("Recommendations"), _reference("Scores")]
    each = {"anyOf": [*one, _reference("Failed")]}
    many = _object({"responses": {"type": "array", "items": each}}, ("responses",))
    content: Schema = {
        format.content_types[0]: {"schema": {"description": ABOUT_FORMATS[format.name]}} for format in FORMATS
    }
    content["application/json"] = {"schema": {"anyOf": [*one, many]}}
    return content


def _all_errors() -> list[type[errors.ServeError]]:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.ServeError)]
    return sorted(found, key=lambda error: (error.status, error.__name__))


def _failure(error: type[errors.ServeError]) -> Schema:
    return {"description": error.code, "content": {"application/json": {"schema": _reference("Error")}}}


def _openai(summary: str, required: str, failures: Schema) -> Schema:
    """Requests and answers in OpenAI's form, which its own document describes."""
    taken = {"type": "object", "properties": {"model": STRING}, "required": [required]}
    failed = {status: {**each, "content": {"application/json": {"schema": {"type": "object"}}}}
              for status, each in failures.items()}  # fmt: skip
    answer: Schema = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": STRING}}
    asked = {"required": True, "content": {"application/json": {"schema": taken}}}
    answers = {"200": {"description": "In OpenAI's form, whole or as events", "content": answer}, **failed}
    return {"post": {"summary": summary, "requestBody": asked, "responses": answers}}


def _control(summary: str, content_type: str = "application/json") -> Schema:
    schema = {"type": "object"} if content_type == "application/json" else STRING
    answer = {"description": summary, "content": {content_type: {"schema": schema}}}
    return {"get": {"summary": summary, "responses": {"200": answer}}}
