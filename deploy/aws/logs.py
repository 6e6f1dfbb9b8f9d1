"""Lines of containers from CloudWatch Logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.errors import UserError

POLL_SECONDS = 3.0


class Line(NamedTuple):
    stream: str
    text: str


def endpoint_group(name: str) -> str:
    return f"/aws/sagemaker/Endpoints/{name}"


def last_lines(aws: Aws, group: str, count: int = 20, prefix: str = "") -> list[Line]:
    """The last lines of the stream that was written last; none if there is no such group or stream."""
    try:
        with in_words():
            found = aws.logs.describe_log_streams(
                logGroupName=group, orderBy="LastEventTime", descending=True, limit=50
            )["logStreams"]
            streams = [one["logStreamName"] for one in found if one["logStreamName"].startswith(prefix)]
            if not streams:
                return []
            events = aws.logs.get_log_events(logGroupName=group, logStreamName=streams[0], limit=count)["events"]
    except Exception as error:
        if _is_missing(error):
            return []
        raise
    return [Line(streams[0], event["message"].rstrip()) for event in events]


def lines(
    aws: Aws, group: str, since_ms: int, prefix: str, follow: bool, pause: Callable[[float], None] = time.sleep
) -> Iterator[Line]:
    """Lines from a time on, oldest first; with `follow` until interrupted."""
    seen: dict[str, int] = {}  # ids of events and their times; the last second is asked for again
    while True:
        asked = {"logGroupName": group, "startTime": since_ms, **({"logStreamNamePrefix": prefix} if prefix else {})}
        try:
            with in_words():
                for page in aws.logs.get_paginator("filter_log_events").paginate(**asked):
                    for event in page["events"]:
                        if event["eventId"] not in seen:
                            seen[event["eventId"]] = event["timestamp"]
                            since_ms = max(since_ms, event["timestamp"] - 1000)
                            yield Line(event["logStreamName"], event["message"].rstrip())
        except Exception as error:
            if not _is_missing(error):
                raise
            if not follow:
                raise UserError(
                    f"there is no log group {group}; nothing has been logged, or the name is wrong"
                ) from None
        if not follow:
            return
        seen = {event: at for event, at in seen.items() if at >= since_ms}
        pause(POLL_SECONDS)


def _is_missing(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(cause, ClientError) and code_of(cause) == "ResourceNotFoundException"
