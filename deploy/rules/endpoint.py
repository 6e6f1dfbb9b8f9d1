"""Rules about an endpoint as a whole: which patterns go together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploy.file.base import Secret
from deploy.file.endpoint import EndpointFile
from deploy.file.hosting import Container, Variant
from deploy.file.source import Keys
from deploy.rules import finding
from deploy.rules.finding import Finding

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
MAX_VARIANTS = 10
LOOKS_SECRET = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY)", re.IGNORECASE)


def names(file: EndpointFile) -> Iterator[Finding]:
    if not NAME.fullmatch(file.name) or not file.name[0].isalpha():
        yield Finding(
            ("name",),
            f"name is {file.name!r} with {len(file.name)} characters; it must have at most 63, letters, digits and "
            "single hyphens, and begin with a letter, because it names a stack too",
            finding.STACK,
        )
    seen: dict[str, str] = {}
    for keys, variant in hosted(file):
        same = re.sub("[^a-z0-9]", "", variant.name.lower())
        if same in seen:
            yield Finding(
                (*keys, "name"),
                f"variants are named {seen[same]} and {variant.name}; names must differ by more than hyphens and case, "
                "because the ids in a template have letters and digits alone",
                finding.ENDPOINT_CONFIG,
            )
        seen[same] = variant.name
    for key in file.tags:
        if key.lower().startswith("aws:"):
            yield Finding(("tags", key), f"tag {key} begins with aws:, which is AWS's own; rename it", finding.TAGGING)


def variants(file: EndpointFile) -> Iterator[Finding]:
    if len(file.variants) > MAX_VARIANTS:
        yield Finding(
            ("variants",),
            f"there are {len(file.variants)} variants; an endpoint has at most {MAX_VARIANTS}",
            finding.ENDPOINT_CONFIG,
        )
    if file.variants and not any(variant.weight for variant in file.variants):
        yield Finding(
            ("variants",), "all weights are 0, so no variant gets requests; raise one", finding.ENDPOINT_CONFIG
        )


def shadow(file: EndpointFile) -> Iterator[Finding]:
    if file.shadow is None:
        return
    if len(file.all_variants) > 1:
        yield Finding(
            ("variants",),
            f"with a shadow there is one production variant, and here are {len(file.all_variants)}; keep one",
            finding.SHADOW_CREATE,
        )
    if file.all_variants and file.all_variants[0].weight != 1:
        yield Finding(("variants", 0, "weight"), "beside a shadow the weight is 1; leave it out", finding.SHADOW_CREATE)
    features = {
        "a serverless": any(one.serverless for one in file.everything_hosted),
        "an asynchronous": file.asynchronous is not None,
        "a multi-container": any(one.containers for one in file.everything_hosted),
        "a multi-model": any(one.is_multi_model for one in file.everything_hosted),
    }
    for feature, is_used in features.items():
        if is_used:
            yield Finding(
                ("shadow",), f"{feature} endpoint takes no shadow; leave out shadow", finding.SHADOW_EXCLUSIONS
            )


def serverless(file: EndpointFile) -> Iterator[Finding]:
    """What serverless endpoints do not have."""
    those = [(keys, variant) for keys, variant in hosted(file) if variant.serverless]
    if not those:
        return
    if len(file.all_variants) > 1:
        yield Finding(("variants",), "a serverless endpoint has one variant; keep one", finding.SERVERLESS)
    for key, is_used in {
        "vpc": file.vpc,
        "network_isolation": file.network_isolation,
        "capture": file.capture,
        "asynchronous": file.asynchronous,
    }.items():
        if is_used:
            yield Finding((key,), f"a serverless endpoint has no {key}; leave it out", finding.SERVERLESS)
    for keys, variant in those:
        assert variant.serverless is not None
        if variant.is_multi_model or variant.containers:
            what = "multi-model" if variant.is_multi_model else "of several containers"
            yield Finding(
                (*keys, "serverless"), f"a serverless endpoint is not {what}; use instances", finding.SERVERLESS
            )
        memory, most = variant.serverless.memory_mb, variant.serverless.max_concurrency
        if memory not in range(1024, 6145, 1024):
            yield Finding(
                (*keys, "serverless", "memory_mb"),
                f"memory_mb is {memory}; it is one of 1024, 2048, 3072, 4096, 5120 and 6144",
                finding.SERVERLESS_CONFIG,
            )
        if not 1 <= most <= 200:
            yield Finding(
                (*keys, "serverless", "max_concurrency"),
                f"max_concurrency is {most}; it is 1 to 200",
                finding.SERVERLESS_CONFIG,
            )
        kept = variant.serverless.provisioned_concurrency
        if kept is not None and not 1 <= kept <= most:
            yield Finding(
                (*keys, "serverless", "provisioned_concurrency"),
                f"provisioned_concurrency is {kept}; it is 1 to max_concurrency, {most}",
                finding.SERVERLESS_CONFIG,
            )


def secrets(file: EndpointFile) -> Iterator[Finding]:
    """Secrets as text would be in the template, and everybody who may describe the model would read them."""
    places = [
        ((*keys, "environment"), container.environment)
        for keys, variant in hosted(file)
        for keys, container in containers(keys, variant)
    ]
    if file.function:
        places.append((("lambda", "environment"), file.function.environment))
    for keys, environment in places:
        for name, value in environment.items():
            if LOOKS_SECRET.search(name) and not isinstance(value, Secret):
                yield Finding(
                    (*keys, name),
                    f"{name} looks like a secret and is written as text; "
                    f"store it in Secrets Manager and write {name}: {{secret: ITS_NAME}}",
                    finding.SECRETS,
                )


def hosted(file: EndpointFile) -> Iterator[tuple[Keys, Variant]]:
    """Every variant and the shadow, with the keys that lead to it."""
    for number, variant in enumerate(file.all_variants):
        yield ("variants", number) if file.variants else (), variant
    if file.shadow:
        yield ("shadow",), file.shadow


def containers(keys: Keys, variant: Variant) -> Iterator[tuple[Keys, Container]]:
    if variant.container:
        yield (*keys, "container"), variant.container
    for number, container in enumerate(variant.containers):
        yield (*keys, "containers", number), container
