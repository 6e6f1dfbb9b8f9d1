"""The client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploy.client.results import AskError, Recommendations, recommendations
from deploy.client.retries import Retries
from deploy.client.transports import JSON, Answer, Ask, Endpoint, Pending, Transport, Url


class NcfClient:
    """Asks an endpoint by its name, or `serve` by its URL; safe to share between threads.

    `NcfClient("food")`, `NcfClient("http://127.0.0.1:8080")`. `target_model` is an archive of a multi-model endpoint,
    `target_container` one of a direct multi-container endpoint, `target_variant` a variant. `requests_prefix` is where
    asynchronous requests of more than 128,000 bytes go. All methods raise AskError.
    """

    def __init__(
        self,
        target: str,
        *,
        region: str | None = None,
        seconds: float = 65,
        connections: int = 10,
        retries: Retries | None = None,
        target_model: str = "",
        target_container: str = "",
        target_variant: str = "",
        requests_prefix: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self._way: Transport = (
            Url(target, seconds, connections)
            if target.startswith(("http://", "https://"))
            else Endpoint(target, region, seconds, connections, requests_prefix, endpoint_url)
        )
        self._retries = retries or Retries()
        self._defaults = Ask(
            b"", target_model=target_model, target_container=target_container, target_variant=target_variant
        )

    def recommend(
        self,
        user_id: Any = None,
        *,
        history: Sequence[Any] | None = None,
        candidates: Sequence[Any] | None = None,
        k: int | None = None,
        exclude: Sequence[Any] | None = None,
        allow: Sequence[Any] | None = None,
        where: Mapping[str, Any] | None = None,
        exclude_seen: bool | None = None,
        with_columns: Sequence[str] | None = None,
        model: str | None = None,
    ) -> Recommendations:
        """The best items for a user, or for a new one by the items of `history`."""
        document = {
            "user_id": user_id, "history": history, "candidates": candidates, "k": k, "exclude": exclude,
            "allow": allow, "where": where, "exclude_seen": exclude_seen, "with": with_columns, "model": model,
        }  # fmt: skip
        return recommendations(self._document(document))

    def similar(
        self,
        item_id: Any,
        *,
        k: int | None = None,
        exclude: Sequence[Any] | None = None,
        allow: Sequence[Any] | None = None,
        where: Mapping[str, Any] | None = None,
        with_columns: Sequence[str] | None = None,
        model: str | None = None,
    ) -> Recommendations:
        """The items most like an item."""
        document = {
            "item_id": item_id, "k": k, "exclude": exclude, "allow": allow, "where": where, "with": with_columns,
            "model": model,
        }  # fmt: skip
        return recommendations(self._document(document))

    def score(self, pairs: Iterable[tuple[Any, Any]], *, model: str | None = None) -> list[float | None]:
        """The score of each pair of user and item; None where an id is unknown."""
        named = [{"user_id": user, "item_id": item} for user, item in pairs]
        return list(self._document({"pairs": named, "model": model})["scores"])

    def invoke(
        self,
        body: bytes,
        content_type: str = JSON,
        *,
        accept: str = "",
        target_model: str = "",
        target_container: str = "",
        target_variant: str = "",
        custom_attributes: str = "",
        inference_id: str = "",
    ) -> Answer:
        """Any body in any format (docs/api.md), and the answer's bytes."""
        ask = self._ask(
            body, content_type, accept=accept, target_model=target_model, target_container=target_container,
            target_variant=target_variant, custom_attributes=custom_attributes, inference_id=inference_id,
        )  # fmt: skip
        return self._retries.call(lambda: self._way.ask(ask))

    def stream(self, body: bytes, content_type: str = JSON, *, accept: str = "") -> Iterator[bytes]:
        """The answer in parts as they come. Only a failure before the first part is tried again."""
        ask = self._ask(body, content_type, accept=accept)

        def begin() -> tuple[bytes | None, Iterator[bytes]]:
            parts = iter(self._way.stream(ask))
            return next(parts, None), parts

        first, rest = self._retries.call(begin)
        if first is not None:
            yield first
            yield from rest

    def invoke_async(
        self, body: bytes, content_type: str = JSON, *, accept: str = "", inference_id: str = "",
        seconds: int | None = None,
    ) -> Pending:  # fmt: skip
        """Queue a request of an asynchronous endpoint; `seconds` (3,600 at most) is the container's time for it."""
        way = self._way
        if not isinstance(way, Endpoint):
            raise AskError(400, "not_asynchronous", "a URL answers at once; asynchronous requests are for endpoints")
        ask = self._ask(body, content_type, accept=accept, inference_id=inference_id)
        return self._retries.call(lambda: way.begin(ask, seconds))

    def _ask(self, body: bytes, content_type: str, **given: str) -> Ask:
        return replace(
            self._defaults, body=body, content_type=content_type, **{name: text for name, text in given.items() if text}
        )

    def _document(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
        document = json.loads(self.invoke(body, accept=JSON).body)
        return dict(document)
