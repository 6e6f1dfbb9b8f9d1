"""Rules about containers, their images and the instances under them."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.file.endpoint import EndpointFile
from deploy.file.images import ecr_image
from deploy.rules import finding
from deploy.rules.endpoint import containers, hosted
from deploy.rules.finding import Finding
from deploy.rules.instances import AMIS, ami_for, has_gpu, is_arm

MAX_CONTAINERS = 15
MAX_VARIABLES = 100
MAX_VALUE = 1024


def several(file: EndpointFile) -> Iterator[Finding]:
    for keys, variant in hosted(file):
        count = len(variant.containers)
        if variant.containers and not 2 <= count <= MAX_CONTAINERS:
            yield Finding(
                (*keys, "containers"),
                f"there are {count} containers; a multi-container endpoint has 2 to {MAX_CONTAINERS}",
                finding.MULTI_CONTAINER,
            )
        every = [container.name for container in variant.containers]
        for at, container in containers(keys, variant):
            if variant.invocation == "direct" and container.name is None:
                yield Finding(
                    (*at, "name"),
                    "name is missing; with invocation direct the caller chooses a container by it",
                    finding.MULTI_CONTAINER,
                )
            elif container.name and every.count(container.name) > 1:
                yield Finding(
                    (*at, "name"), f"two containers are named {container.name}; rename one", finding.MULTI_CONTAINER
                )
        if variant.invocation == "direct" and variant.is_multi_model:
            yield Finding(
                (*keys, "invocation"),
                "with invocation direct a container has one model; give it model instead of models",
                finding.MULTI_CONTAINER,
            )


def images(file: EndpointFile) -> Iterator[Finding]:
    places = [((*at, "image"), one.image) for keys, variant in hosted(file) for at, one in containers(keys, variant)]
    if file.function:
        places.append((("lambda", "image"), file.function.image))
    for keys, image in places:
        if image is None:
            continue
        where = ecr_image(image)
        if where is None:
            yield Finding(
                keys,
                f"image is {image}; it must be in ECR, ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG, "
                "and scripts/push_to_ecr.sh prints such a URI",
                finding.HOSTING_IMAGES,
            )
        elif file.region and where.region != file.region:
            yield Finding(
                keys,
                f"image is in {where.region} and the endpoint in {file.region}; push it to {file.region} too",
                finding.LAMBDA_IMAGES if file.function else finding.HOSTING_IMAGES,
            )


def environment(file: EndpointFile) -> Iterator[Finding]:
    for keys, variant in hosted(file):
        for at, container in containers(keys, variant):
            count = len(container.environment)
            if count > MAX_VARIABLES:
                yield Finding(
                    (*at, "environment"),
                    f"environment has {count} entries; a container has at most {MAX_VARIABLES}",
                    finding.ENVIRONMENT,
                )
            for name, value in container.environment.items():
                if isinstance(value, str) and len(value) > MAX_VALUE:
                    yield Finding(
                        (*at, "environment", name),
                        f"the value of {name} has {len(value):,} characters; at most {MAX_VALUE:,} are taken",
                        finding.ENVIRONMENT,
                    )


def multi_model(file: EndpointFile) -> Iterator[Finding]:
    """On GPUs AWS supports multi-model endpoints with its own Triton image alone, or with one that is built on it."""
    for keys, variant in hosted(file):
        for at, container in containers(keys, variant):
            if container.models and not container.models.endswith("/"):
                yield Finding(
                    (*at, "models"),
                    f"models is {container.models}; a prefix ends with /, or s3://bucket/food would cover food-old too",
                    finding.BRING_CONTAINER,
                )
            own = container.aws_triton_base or "sagemaker-tritonserver" in (container.image or "")
            if container.models and variant.instances and has_gpu(variant.instances.type) and not own:
                yield Finding(
                    (*at, "models"),
                    f"a multi-model endpoint on {variant.instances.type} needs an image built on AWS's own Triton "
                    "image (make image-gpu ARGS='--build-arg BASE_IMAGE=…sagemaker-tritonserver:…'); "
                    "build it so and write aws_triton_base: true, or use an instance without a GPU",
                    finding.MME_CONTRACT,
                )
            if container.aws_triton_base and not container.models:
                yield Finding(
                    (*at, "aws_triton_base"), "aws_triton_base is for multi-model; leave it out", finding.MME_CONTRACT
                )


def instances(file: EndpointFile) -> Iterator[Finding]:
    for keys, variant in hosted(file):
        machine = variant.instances
        if machine is None:
            continue
        if is_arm(machine.type):
            yield Finding(
                (*keys, "instances", "type"),
                f"{machine.type} has an arm64 processor and the image is for x86-64; use an Intel or AMD type",
                finding.HOSTING_IMAGES,
            )
        if machine.count == 0 and not (variant.scaling and variant.scaling.min == 0):
            yield Finding(
                (*keys, "instances", "count"),
                "count is 0; an endpoint starts with 1 or more, and goes to 0 by scaling if it is asynchronous",
                finding.ENDPOINT_CONFIG,
            )
        if machine.ami is None:
            continue
        if not has_gpu(machine.type):
            yield Finding((*keys, "instances", "ami"), f"{machine.type} has no GPU, so leave out ami", finding.AMI)
            continue
        cuda = max(container.cuda for container in variant.all_containers)
        needed = ami_for(machine.type, cuda)
        if machine.ami in AMIS and needed in AMIS and AMIS[machine.ami] < AMIS[needed]:
            yield Finding(
                (*keys, "instances", "ami"),
                f"the driver of {machine.ami} is for CUDA {AMIS[machine.ami]}, and the image has CUDA {cuda}; "
                f"leave out ami to get {needed}, or give the container's cuda if the image has another",
                finding.AMI,
            )
