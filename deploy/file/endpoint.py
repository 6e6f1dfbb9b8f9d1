"""An endpoint's file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from deploy.file.base import Environment, Part, Percent, S3Uri, Tags, Vpc
from deploy.file.hosting import Hosted, Shadow, Variant

Topic = Annotated[str, Field(pattern=r"^(create|arn:aws[a-z-]*:sns:.+)$")]
ONLY_VARIANT = "AllTraffic"
# SageMaker's limits of an asynchronous request; the usual ones of `serve` are 25 MB and 60 s.
ASYNCHRONOUS = {"SERVE_MAX_BODY_BYTES": str(1 << 30), "SERVE_TIMEOUT_SECONDS": "3600"}


class Asynchronous(Part):
    """Requests lie under `input`, answers go under `output`. A topic is an ARN, or `create` for one in the stack."""

    input: S3Uri
    output: S3Uri
    failures: S3Uri | None = None
    success_topic: Topic | None = None
    error_topic: Topic | None = None
    answer_in_notification: bool = False
    max_concurrent_per_instance: int | None = None


class Rollback(Part):
    """Alarms that end an update: existing ones by name, and two that the stack makes."""

    alarms: list[str] = []
    errors_percent: float | None = Field(None, gt=0, le=100, strict=False)
    latency_ms: float | None = Field(None, gt=0, strict=False)


class Update(Part):
    """How a change reaches the endpoint; `wait_seconds` lie between two steps, `keep_old_seconds` after the last."""

    strategy: Literal["all_at_once", "canary", "linear", "rolling"]
    percent: Percent | None = None
    wait_seconds: int = 0
    keep_old_seconds: int | None = None
    timeout_seconds: int | None = None
    rollback: Rollback | None = None

    @model_validator(mode="after")
    def _fits(self) -> Update:
        if (self.percent is None) != (self.strategy == "all_at_once"):
            need = "takes no percent; leave it out" if self.percent else "needs percent, the size of a step"
            raise ValueError(f"strategy {self.strategy} {need}")
        if self.keep_old_seconds is not None and self.strategy == "rolling":
            raise ValueError("keep_old_seconds is not for strategy rolling, which has no second fleet; leave it out")
        return self


class Capture(Part):
    """Copies of requests and answers in S3."""

    to: S3Uri
    percent: int = Field(100, ge=0, le=100)
    what: list[Literal["input", "output"]] = Field(["input", "output"], min_length=1)
    json_types: list[str] = ["application/json", "application/jsonlines"]
    csv_types: list[str] = ["text/csv"]


class Metrics(Part):
    """SageMaker's MetricsConfig. `detailed`: AWS scrapes the container's `/metrics` on port 8080."""

    detailed: bool = True
    enhanced: bool = False
    every_seconds: Literal[10, 30, 60, 120, 180, 240, 300] = 60


class LambdaFunction(Part):
    """The cpu image as a function; the models are in the image."""

    image: str
    memory_mb: int = 3008
    timeout_seconds: int = 60
    temporary_mb: int = 512
    reserved_concurrency: int | None = Field(None, ge=0)
    url: Literal["none", "iam", "public"] = "iam"
    environment: Environment = {}


class EndpointFile(Hosted):
    """One endpoint, or one Lambda function. With `variants` the keys of Hosted are in each of these instead."""

    name: str
    region: str | None = None
    tags: Tags = {}
    role: str | None = None
    kms_key: str | None = None
    vpc: Vpc | None = None
    network_isolation: bool = False
    uploads: S3Uri | None = None
    variants: list[Variant] = []
    shadow: Shadow | None = None
    asynchronous: Asynchronous | None = None
    update: Update | None = None
    capture: Capture | None = None
    metrics: Metrics | None = None
    dashboard: bool = False
    function: LambdaFunction | None = Field(None, alias="lambda")

    @model_validator(mode="after")
    def _is_whole(self) -> EndpointFile:
        own = [name for name in Hosted.model_fields if name in self.model_fields_set]
        if self.function:
            alone = {"variants", "shadow", "asynchronous", "update", "capture", "metrics", "dashboard"}
            if both := sorted({*own, *alone, "network_isolation"} & self.model_fields_set):
                raise ValueError(f"a Lambda function has no {', '.join(both)}; leave it out, or leave out lambda")
        elif self.variants and own:
            raise ValueError(f"with variants, {', '.join(own)} belongs into each of them")
        elif not self.variants and (lacks := self.lacks()):
            raise ValueError(lacks)
        needs = next((at for at in self.local_models()), None)
        if needs and not self.uploads:
            raise ValueError(f"model {needs} is a file here, so uploads is needed: s3://BUCKET/PREFIX for its upload")
        if self.asynchronous:
            for container in (one for hosted in self.everything_hosted for one in hosted.all_containers):
                for name, value in ASYNCHRONOUS.items():
                    container.environment.setdefault(name, value)
        return self

    @property
    def all_variants(self) -> list[Variant]:
        """The production variants; none for a Lambda function."""
        if self.variants or self.function:
            return self.variants
        own: dict[str, Any] = {name: getattr(self, name) for name in Hosted.model_fields}
        return [Variant.model_construct(name=ONLY_VARIANT, weight=1.0, **own)]

    @property
    def everything_hosted(self) -> list[Variant]:
        return [*self.all_variants, *([self.shadow] if self.shadow else [])]

    def local_models(self) -> list[str]:
        """The archives to upload, as the file names them."""
        found = [c.local_model for hosted in self.everything_hosted for c in hosted.all_containers if c.local_model]
        return list(dict.fromkeys(found))
