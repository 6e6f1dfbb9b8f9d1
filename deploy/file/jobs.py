"""Files of training jobs and of batch transforms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from deploy.file.base import Environment, Part, S3Uri, Tags, Vpc, as_text

Text = Annotated[str, BeforeValidator(as_text)]
# What the `train` verb prints (docs/training-jobs.md).
METRICS = {"Loss": "Loss=(.*?);", "HR": "HR=(.*?);", "NDCG": "NDCG=(.*?);"}


class Channel(Part):
    from_: S3Uri = Field(alias="from")
    mode: Literal["File", "FastFile", "Pipe"] = "File"
    content_type: str | None = None


class TrainInstances(Part):
    type: str
    count: int = Field(1, ge=1)
    volume_gb: int = Field(30, ge=1)


class TrainJob(Part):
    """A job of the image's `train` verb. `name` gets the time of the start behind it."""

    name: str
    region: str | None = None
    role: str
    image: str
    instances: TrainInstances
    channels: dict[str, Channel] = Field(min_length=1, max_length=20)
    hyperparameters: dict[str, Text] = {}
    output: S3Uri
    checkpoints: S3Uri | None = None
    spot: bool = False
    max_seconds: int = Field(86_400, ge=1)
    max_wait_seconds: int | None = None
    metrics: dict[str, str] = METRICS
    environment: Environment = {}
    kms_key: str | None = None
    vpc: Vpc | None = None
    network_isolation: bool = False
    tags: Tags = {}

    @model_validator(mode="after")
    def _fits(self) -> TrainJob:
        if self.max_wait_seconds is not None and not self.spot:
            raise ValueError("max_wait_seconds is for spot: true; leave it out")
        if self.max_wait_seconds is not None and self.max_wait_seconds < self.max_seconds:
            raise ValueError(f"max_wait_seconds is below max_seconds, {self.max_seconds}, which it includes; raise it")
        if self.spot and self.checkpoints is None:
            raise ValueError("a spot job can be interrupted, and without checkpoints it begins again; give checkpoints")
        return self


class TransformInput(Part):
    from_: S3Uri = Field(alias="from")
    content_type: str = "application/jsonlines"
    split: Literal["line", "none"] = "line"
    compression: Literal["none", "gzip"] = "none"


class TransformOutput(Part):
    to: S3Uri
    accept: str | None = None
    join_input: bool = False
    input_filter: str | None = None
    output_filter: str | None = None


class TransformInstances(Part):
    type: str
    count: int = Field(1, ge=1)
    ami: str | None = None


class TransformJob(Part):
    """A batch transform with an image and a model, or with a model that exists in SageMaker."""

    name: str
    region: str | None = None
    role: str | None = None
    image: str | None = None
    model: S3Uri | None = None
    model_name: str | None = None
    instances: TransformInstances
    input: TransformInput
    output: TransformOutput
    strategy: Literal["multi_record", "single_record"] = "multi_record"
    max_payload_mb: int = 6
    max_concurrent: int | None = None
    timeout_seconds: int | None = None
    retries: int | None = None
    environment: Environment = {}
    kms_key: str | None = None
    vpc: Vpc | None = None
    tags: Tags = {}

    @model_validator(mode="after")
    def _is_whole(self) -> TransformJob:
        if bool(self.model_name) == bool(self.image):
            raise ValueError("give image, model and role, or model_name of a model that exists in SageMaker")
        if self.image and not (self.model and self.role):
            raise ValueError("with image, give model and role too")
        output = self.output
        if self.input.split == "none" and (output.join_input or output.input_filter or output.output_filter):
            raise ValueError("join_input, input_filter and output_filter work on lines, so input.split must be line")
        return self
