"""Rules about updates, scaling, asynchronous endpoints and Lambda functions."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.file.endpoint import EndpointFile
from deploy.rules import finding
from deploy.rules.endpoint import hosted
from deploy.rules.finding import Finding, Page

# The size of a step in percent of the new fleet.
SIZES: dict[str, tuple[int, int, Page]] = {
    "canary": (1, 50, finding.CANARY),
    "linear": (10, 50, finding.LINEAR),
    "rolling": (5, 50, finding.ROLLING),
}
MAX_ALARMS = 10


def update(file: EndpointFile) -> Iterator[Finding]:
    wanted = file.update
    if wanted is None:
        return
    if wanted.percent is not None:
        least, most, page = SIZES[wanted.strategy]
        if not least <= wanted.percent <= most:
            yield Finding(
                ("update", "percent"),
                f"percent is {wanted.percent}; with strategy {wanted.strategy} it is {least} to {most}",
                page,
            )
    for key, value, least, most in (
        ("wait_seconds", wanted.wait_seconds, 0, 3600),
        ("keep_old_seconds", wanted.keep_old_seconds, 0, 3600),
        ("timeout_seconds", wanted.timeout_seconds, 600, 28800),
    ):
        if value is not None and not least <= value <= most:
            yield Finding(("update", key), f"{key} is {value}; it is {least} to {most}", finding.ROLLING)
    if wanted.strategy == "rolling":
        several, serverless = len(file.all_variants) > 1, any(one.serverless for one in file.everything_hosted)
        if several or serverless:
            yield Finding(
                ("update", "strategy"),
                f"rolling is not for {'several variants' if several else 'serverless endpoints'}; use canary or linear",
                finding.GUARDRAIL_EXCLUSIONS,
            )
    if wanted.rollback:
        made = (wanted.rollback.errors_percent is not None) + (wanted.rollback.latency_ms is not None)
        alarms = len(wanted.rollback.alarms) + made * len(file.all_variants)
        if not 1 <= alarms <= MAX_ALARMS:
            yield Finding(
                ("update", "rollback"),
                f"rollback has {alarms} alarms (those named, and one a variant for errors_percent and latency_ms); "
                f"it takes 1 to {MAX_ALARMS}",
                finding.CANARY,
            )


def asynchronous(file: EndpointFile) -> Iterator[Finding]:
    wanted = file.asynchronous
    if wanted is None:
        return
    if len(file.all_variants) > 1:
        yield Finding(("variants",), "an asynchronous endpoint has one variant; keep one", finding.ASYNC)
    if any(variant.is_multi_model for variant in file.all_variants):
        yield Finding(
            ("asynchronous",),
            "InvokeEndpointAsync has no target model, so an asynchronous endpoint is not multi-model; give model",
            finding.ASYNC,
        )
    most = wanted.max_concurrent_per_instance
    if most is not None and not 1 <= most <= 1000:
        yield Finding(
            ("asynchronous", "max_concurrent_per_instance"),
            f"max_concurrent_per_instance is {most}; it is 1 to 1000",
            finding.ASYNC,
        )


def scaling(file: EndpointFile) -> Iterator[Finding]:
    for keys, variant in hosted(file):
        wanted = variant.scaling
        if wanted is None:
            continue
        at = (*keys, "scaling")
        if keys == ("shadow",):
            yield Finding(at, "a shadow does not scale; leave out scaling", finding.SHADOW_CREATE)
            continue
        metrics = [(("target",), wanted.target.metric)] if wanted.target else []
        metrics += [(("step",), wanted.step.metric)] if wanted.step else []
        for key, metric in metrics:
            if metric == "backlog_per_instance" and not file.asynchronous:
                yield Finding(
                    (*at, *key, "metric"),
                    "backlog_per_instance is for asynchronous endpoints; use invocations_per_instance",
                    finding.ASYNC_SCALING,
                )
            if (metric == "provisioned_concurrency_utilization") != bool(variant.serverless):
                need = "provisioned_concurrency_utilization" if variant.serverless else "invocations_per_instance"
                yield Finding(
                    (*at, *key, "metric"),
                    f"metric is {metric}; {'serverless' if variant.serverless else 'instances'} scale by {need}",
                    finding.SERVERLESS,
                )
        if wanted.min == 0 and not file.asynchronous:
            yield Finding(
                (*at, "min"),
                "min is 0; only an asynchronous endpoint goes down to no instances (a serverless one needs no scaling)",
                finding.ASYNC_SCALING,
            )
        if variant.serverless and variant.serverless.provisioned_concurrency is None:
            yield Finding(
                at, "without provisioned_concurrency there is nothing to scale; leave out scaling", finding.SERVERLESS
            )


def function(file: EndpointFile) -> Iterator[Finding]:
    wanted = file.function
    if wanted is None:
        return
    for key, value, least, most in (
        ("memory_mb", wanted.memory_mb, 128, 10_240),
        ("timeout_seconds", wanted.timeout_seconds, 1, 900),
        ("temporary_mb", wanted.temporary_mb, 512, 10_240),
    ):
        if not least <= value <= most:
            yield Finding(("lambda", key), f"{key} is {value}; it is {least} to {most:,}", finding.LAMBDA)
    size = sum(len(name) + len(str(value)) for name, value in wanted.environment.items())
    if size > 4096:
        yield Finding(
            ("lambda", "environment"), f"environment has {size:,} bytes; a function has at most 4,096", finding.LAMBDA
        )
