"""Copies of requests and answers in S3, in the files and the form of SageMaker's data capture."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid
from datetime import datetime, timezone
from typing import Any

from deploy.errors import DeployError
from deploy.file.endpoint import Capture
from deploy.local.api import Request
from deploy.local.place import Place
from deploy.local.program import Reply

RECORDS = 100  # a file; AWS publishes no figure


class Captured:
    """Records of one endpoint, by variant until there are enough for a file."""

    def __init__(self, place: Place, wanted: Capture) -> None:
        self.written = 0
        self._place, self._wanted = place, wanted
        self._records: dict[str, list[str]] = {}

    async def add(self, variant: str, request: Request, reply: Reply) -> None:
        """One request in `percent`."""
        if random.random() * 100 >= self._wanted.percent:
            return
        data: dict[str, Any] = {}
        if "input" in self._wanted.what:
            data["endpointInput"] = self._part("INPUT", request.get("ContentType"), request.body)
        if "output" in self._wanted.what:
            data["endpointOutput"] = self._part("OUTPUT", reply.headers.get("content-type", ""), reply.body)
        about = {"eventId": str(uuid.uuid4()), "inferenceTime": _now().strftime("%Y-%m-%dT%H:%M:%SZ")}
        if inference_id := request.get("InferenceId"):
            about["inferenceId"] = inference_id
        record = {"captureData": data, "eventMetadata": about, "eventVersion": "0"}
        self._records.setdefault(variant, []).append(json.dumps(record))
        if len(self._records[variant]) >= RECORDS:
            await self.write(variant)

    def _part(self, mode: str, content_type: str, body: bytes) -> dict[str, str]:
        kind = content_type.partition(";")[0].strip()
        text = {**dict.fromkeys(self._wanted.json_types, "JSON"), **dict.fromkeys(self._wanted.csv_types, "CSV")}
        encoding = text.get(kind, "BASE64")
        data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode(errors="replace")
        return {"observedContentType": content_type, "mode": mode, "data": data, "encoding": encoding}

    async def write(self, variant: str) -> None:
        """What has come since the last file; a failure is said, and the records are lost."""
        records = self._records.pop(variant, [])
        now = _now()
        folder = f"{self._wanted.to.rstrip('/')}/{self._place.endpoint}/{variant}/{now:%Y/%m/%d/%H}"
        uri = f"{folder}/{now:%M-%S}-{now.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
        content = "".join(f"{record}\n" for record in records).encode()
        try:
            await asyncio.to_thread(self._place.storage.put, uri, content, "application/jsonlines")
            self.written += len(records)
        except DeployError as error:
            self._place.say(f"{self._place.endpoint}: {len(records)} captured requests are lost: {error}")

    async def close(self) -> None:
        for variant in list(self._records):
            await self.write(variant)


def _now() -> datetime:
    return datetime.now(timezone.utc)
