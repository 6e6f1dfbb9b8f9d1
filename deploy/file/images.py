"""The URI of an image in ECR."""

from __future__ import annotations

import re
from typing import NamedTuple

IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[a-z0-9][a-z0-9._/-]*)(:(?P<tag>[\w.-]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class EcrImage(NamedTuple):
    account: str
    region: str
    repository: str
    tag: str | None
    digest: str | None


def ecr_image(uri: str) -> EcrImage | None:
    """The parts of an image's URI in ECR; None if it is elsewhere."""
    match = IMAGE.fullmatch(uri)
    return EcrImage(*match.group("account", "region", "repository", "tag", "digest")) if match else None
