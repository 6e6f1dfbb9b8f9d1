"""What is hosted, and on what: containers, instances, serverless capacity, scaling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deploy.file.base import Environment, Part, Percent, S3Uri

# The gpu image's default base has CUDA 13 (Dockerfile), and so an AMI with a driver of 580 or later is set.
IMAGE_CUDA = 13.0
Metric = Literal[
    "invocations_per_instance",
    "concurrent_requests_per_model",
    "cpu_percent",
    "gpu_percent",
    "backlog_per_instance",
    "provisioned_concurrency_utilization",
]


class Container(Part):
    """An image with its model: an archive, an S3 prefix of archives, a package of the registry, or none.

    `model` is `s3://…` or a path relative to the file, which `apply` uploads. `models` makes it multi-model. `cuda` is
    the CUDA version of an image for GPUs. `aws_triton_base`: the image is built on AWS's own Triton image.
    """

    name: str | None = None
    image: str | None = None
    model: str | None = None
    models: S3Uri | None = None
    cache_models: bool = True
    package: str | None = None
    package_group: str | None = None
    environment: Environment = {}
    cuda: float = Field(IMAGE_CUDA, strict=False)
    aws_triton_base: bool = False

    @model_validator(mode="after")
    def _is_whole(self) -> Container:
        given = [name for name in ("model", "models", "package", "package_group") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; keep one")
        if self.from_registry and self.image:
            raise ValueError(f"a package of the registry has its own image; leave out image or {given[0]}")
        if not self.from_registry and not self.image:
            raise ValueError("image is missing: the URI that scripts/push_to_ecr.sh prints")
        return self

    @property
    def from_registry(self) -> bool:
        return bool(self.package or self.package_group)

    @property
    def local_model(self) -> str | None:
        """The path of an archive that must be uploaded."""
        return self.model if self.model and "://" not in self.model else None


class Instances(Part):
    type: str
    count: int = Field(1, ge=0)
    ami: str | None = None
    volume_gb: int | None = None
    startup_timeout_seconds: int | None = None
    download_timeout_seconds: int | None = None
    routing: Literal["random", "least_outstanding_requests"] | None = None


class Serverless(Part):
    memory_mb: int
    max_concurrency: int
    provisioned_concurrency: int | None = None


class Target(Part):
    """Target tracking: keep a metric's mean near a value."""

    metric: Metric
    value: float = Field(gt=0, strict=False)
    scale_in: bool = True


class Step(Part):
    """From `above` on (or down from `below`), as far as the next step, so many instances come (below 0: go)."""

    above: float | None = Field(None, strict=False)
    below: float | None = Field(None, strict=False)
    add: int

    @model_validator(mode="after")
    def _has_one_side(self) -> Step:
        if (self.above is None) == (self.below is None):
            raise ValueError("a step has above or below; give one of them")
        if (self.add > 0) != (self.above is not None):
            raise ValueError(f"add is {self.add}; a step above a value adds instances, one below a value removes them")
        return self


class Steps(Part):
    metric: Metric
    steps: list[Step] = Field(min_length=1, max_length=20)
    period_seconds: int = Field(60, ge=60, multiple_of=60)
    periods: int = Field(1, ge=1)


class Schedule(Part):
    """`when` is Application Auto Scaling's: cron(…), rate(…) or at(…)."""

    name: str
    when: str = Field(pattern=r"^(cron|rate|at)\(.+\)$")
    timezone: str | None = None
    min: int | None = Field(None, ge=0)
    max: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _changes_something(self) -> Schedule:
        if self.min is None and self.max is None:
            raise ValueError("a scheduled action changes min, max or both; give one")
        return self


class Scaling(Part):
    """From `min` to `max` instances, by a target, by steps, by schedule; all of them may be combined."""

    min: int = Field(ge=0)
    max: int = Field(ge=1)
    target: Target | None = None
    step: Steps | None = None
    schedule: list[Schedule] = []
    out_seconds: int = Field(60, ge=0)
    in_seconds: int = Field(300, ge=0)

    @model_validator(mode="after")
    def _scales(self) -> Scaling:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max is {self.max}; min must not be larger")
        if not (self.target or self.step or self.schedule):
            raise ValueError("nothing makes it scale; give target, step or schedule")
        return self


class Hosted(Part):
    """One model in SageMaker's sense: its containers and where they run."""

    container: Container | None = None
    containers: list[Container] = []
    invocation: Literal["serial", "direct"] | None = None
    instances: Instances | None = None
    serverless: Serverless | None = None
    scaling: Scaling | None = None

    @property
    def all_containers(self) -> list[Container]:
        return [self.container] if self.container else self.containers

    @property
    def is_multi_model(self) -> bool:
        return any(container.models for container in self.all_containers)

    def lacks(self) -> str | None:
        """What is missing or contradictory, in words."""
        if bool(self.container) == bool(self.containers):
            return "give container, or containers for several in one endpoint, and not both"
        if self.containers and self.invocation is None:
            return "invocation is missing: serial (an answer goes to the next container) or direct (the caller chooses)"
        if self.container and self.invocation:
            return "invocation is for several containers; leave it out"
        if bool(self.instances) == bool(self.serverless):
            return "give instances or serverless, and not both"
        return None


class Variant(Hosted):
    name: str
    weight: float = Field(1.0, ge=0, strict=False)

    @model_validator(mode="after")
    def _is_whole(self) -> Variant:
        if lacks := self.lacks():
            raise ValueError(lacks)
        return self


class Shadow(Variant):
    """Gets a copy of `percent` of the requests; its answers are thrown away."""

    name: str = "Shadow"
    percent: Percent = 100
