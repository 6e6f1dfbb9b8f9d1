"""What an image in ECR says about itself: labels, processor, CUDA; without pulling it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import urllib3
from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.errors import UserError, WorldError
from deploy.file.endpoint import EndpointFile
from deploy.file.hosting import Variant
from deploy.file.images import EcrImage, ecr_image
from deploy.rules import finding
from deploy.rules.instances import AMIS, ami_for, has_gpu

MULTI_MODEL = "com.amazonaws.sagemaker.capabilities.multi-models"
BIND_TO_PORT = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
MANIFESTS = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
]


class About(NamedTuple):
    labels: dict[str, str]
    processor: str
    environment: dict[str, str]


def check(aws: Aws, file: EndpointFile) -> None:
    """Raises UserError if an image is not there, is for another processor, or lacks what its pattern needs."""
    known: dict[str, About] = {}
    for hosted in file.everything_hosted:
        for container in hosted.all_containers:
            if container.image and (place := ecr_image(container.image)):
                _require_region(place, aws.region, container.image)
                if container.image not in known:
                    known[container.image] = look(aws, place, container.image)
                _require(known[container.image], hosted, container.models is not None, container.image)
    if file.function and (place := ecr_image(file.function.image)):
        _require_region(place, aws.region, file.function.image)
        _require_processor(look(aws, place, file.function.image), file.function.image)


def _require(about: About, hosted: Variant, multi_model: bool, image: str) -> None:
    _require_processor(about, image)
    needed = {MULTI_MODEL: multi_model, BIND_TO_PORT: bool(hosted.containers)}
    for label, is_needed in needed.items():
        page = finding.BRING_CONTAINER if label == MULTI_MODEL else finding.MULTI_CONTAINER
        if is_needed and about.labels.get(label) != "true":
            raise UserError(
                f"image {image} lacks the label {label}=true, which this pattern needs; "
                f"images of `make image` have it\n    {page.title}: {page.address}"
            )
    cuda = about.environment.get("CUDA_VERSION", "")
    if hosted.instances and has_gpu(hosted.instances.type) and cuda[:1].isdigit():
        has = float(".".join(cuda.split(".")[:2]))
        chosen = hosted.instances.ami or ami_for(hosted.instances.type, max(c.cuda for c in hosted.all_containers))
        if chosen is None or AMIS.get(chosen, has) < int(has):
            raise UserError(
                f"image {image} has CUDA {cuda}, and the driver of {chosen or 'the default AMI'} is too old for it; "
                f"write cuda: {has} for the container, or leave cuda and ami out\n"
                f"    {finding.AMI.title}: {finding.AMI.address}"
            )


def _require_region(place: EcrImage, region: str, image: str) -> None:
    if place.region != region:
        raise UserError(f"image {image} is in {place.region}, and you deploy to {region}; push it to {region} too")


def _require_processor(about: About, image: str) -> None:
    if about.processor not in ("amd64", ""):
        raise UserError(
            f"image {image} is for {about.processor}; build it for linux/amd64 (scripts/push_to_ecr.sh does)\n"
            f"    {finding.HOSTING_IMAGES.title}: {finding.HOSTING_IMAGES.address}"
        )


def look(aws: Aws, place: EcrImage, uri: str) -> About:
    """Read the image's configuration. Raises UserError if there is no such image."""
    where = {"registryId": place.account, "repositoryName": place.repository}
    wanted = {"imageDigest": place.digest} if place.digest else {"imageTag": place.tag or "latest"}
    try:
        with in_words():
            answer = aws.ecr.batch_get_image(**where, imageIds=[wanted], acceptedMediaTypes=MANIFESTS)
    except Exception as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and code_of(cause) == "RepositoryNotFoundException":
            raise UserError(f"image {uri}: there is no repository {place.repository}; push it first") from None
        raise
    if not answer["images"]:
        tag = place.digest or f"the tag {place.tag or 'latest'}"
        raise UserError(f"image {uri}: the repository has no image with {tag}; push it with scripts/push_to_ecr.sh")
    manifest: dict[str, Any] = json.loads(answer["images"][0]["imageManifest"])
    if "manifests" in manifest:
        raise UserError(
            f"image {uri} is an index of several images, which SageMaker refuses; push one with scripts/push_to_ecr.sh"
        )
    with in_words():
        url = aws.ecr.get_download_url_for_layer(**where, layerDigest=manifest["config"]["digest"])["downloadUrl"]
    try:
        config = json.loads(urllib3.request("GET", url, timeout=30).data)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise WorldError(f"the configuration of {uri} cannot be read: {error}") from error
    inner = config.get("config") or {}
    variables = dict(entry.partition("=")[::2] for entry in inner.get("Env") or [])
    return About(inner.get("Labels") or {}, str(config.get("architecture", "")), variables)
