"""What a batch-transform job may send: its own values where it has set them, else ours."""

from __future__ import annotations

from typing import Any

from serve.settings import Settings

# SageMaker's default payload, and the most that payload × concurrency may come to.
PAYLOAD_MB, TOTAL_MB = 6, 100
MAX_CONCURRENT_TRANSFORMS = TOTAL_MB // PAYLOAD_MB


def execution_parameters(settings: Settings) -> dict[str, Any]:
    """The answer of /execution-parameters.

    The SDK's local mode (SAGEMAKER_BATCH is "True") knows the strategies by other names than the platform ("true").
    """
    payload, concurrent = settings.max_payload_mb, settings.max_concurrent_transforms
    if payload is None:
        payload = max(1, min(PAYLOAD_MB, TOTAL_MB // (concurrent or 1)))
    if concurrent is None:  # a payload of 0 is one without a limit
        concurrent = max(1, min(MAX_CONCURRENT_TRANSFORMS, TOTAL_MB // payload)) if payload else 1
    strategy = settings.batch_strategy or "MULTI_RECORD"
    if settings.batch == "True":
        strategy = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}[strategy]
    return {"MaxConcurrentTransforms": concurrent, "BatchStrategy": strategy, "MaxPayloadInMB": payload}
