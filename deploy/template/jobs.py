"""From a job's file to the parameters of SageMaker's API; jobs are no resources of CloudFormation."""

from __future__ import annotations

from typing import Any

from deploy.errors import UserError
from deploy.file.base import Environment, Secret, Tags, Vpc
from deploy.file.jobs import TrainJob, TransformJob
from deploy.template.values import given


def train_request(job: TrainJob, name: str) -> dict[str, Any]:
    """The parameters of CreateTrainingJob."""
    channels = [
        given(
            ChannelName=channel_name,
            InputMode=channel.mode,
            ContentType=channel.content_type,
            DataSource={
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": channel.from_,
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
        )
        for channel_name, channel in job.channels.items()
    ]
    limits = {"MaxRuntimeInSeconds": job.max_seconds}
    if job.spot:
        limits["MaxWaitTimeInSeconds"] = job.max_wait_seconds or 2 * job.max_seconds
    return given(
        TrainingJobName=name,
        RoleArn=job.role,
        AlgorithmSpecification={
            "TrainingImage": job.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": key, "Regex": value} for key, value in job.metrics.items()],
        },
        HyperParameters=dict(job.hyperparameters),
        InputDataConfig=channels,
        OutputDataConfig=given(S3OutputPath=job.output, KmsKeyId=job.kms_key),
        ResourceConfig=given(
            InstanceType=job.instances.type,
            InstanceCount=job.instances.count,
            VolumeSizeInGB=job.instances.volume_gb,
            VolumeKmsKeyId=job.kms_key,
        ),
        CheckpointConfig={"S3Uri": f"{job.checkpoints.rstrip('/')}/{name}"} if job.checkpoints else None,
        EnableManagedSpotTraining=job.spot or None,
        EnableNetworkIsolation=job.network_isolation or None,
        StoppingCondition=limits,
        VpcConfig=_vpc(job.vpc),
        Environment=_variables(job.environment),
        Tags=_tags(job.tags),
    )


def model_request(job: TransformJob, name: str) -> dict[str, Any] | None:
    """The parameters of CreateModel for a transform that brings its image; None if the model exists."""
    if not job.image:
        return None
    return given(
        ModelName=name,
        ExecutionRoleArn=job.role,
        PrimaryContainer=given(Image=job.image, ModelDataUrl=job.model, Environment=_variables(job.environment)),
        VpcConfig=_vpc(job.vpc),
        Tags=_tags(job.tags),
    )


def transform_request(job: TransformJob, name: str) -> dict[str, Any]:
    """The parameters of CreateTransformJob."""
    client = given(InvocationsTimeoutInSeconds=job.timeout_seconds)
    if job.retries is not None:
        client["InvocationsMaxRetries"] = job.retries
    splits = job.input.split == "line"
    return given(
        TransformJobName=name,
        ModelName=job.model_name or name,
        MaxConcurrentTransforms=job.max_concurrent,
        ModelClientConfig=client,
        BatchStrategy={"multi_record": "MultiRecord", "single_record": "SingleRecord"}[job.strategy],
        Environment=_variables(job.environment) if job.model_name else None,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": job.input.from_}},
            "ContentType": job.input.content_type,
            "SplitType": "Line" if splits else "None",
            "CompressionType": job.input.compression.capitalize(),
        },
        TransformOutput=given(
            S3OutputPath=job.output.to,
            Accept=job.output.accept or job.input.content_type,
            AssembleWith="Line" if splits else "None",
            KmsKeyId=job.kms_key,
        ),
        TransformResources=given(
            InstanceType=job.instances.type,
            InstanceCount=job.instances.count,
            VolumeKmsKeyId=job.kms_key,
            TransformAmiVersion=job.instances.ami,
        ),
        DataProcessing=given(
            JoinSource="Input" if job.output.join_input else None,
            InputFilter=job.output.input_filter,
            OutputFilter=job.output.output_filter,
        ),
        Tags=_tags(job.tags),
    ) | {"MaxPayloadInMB": job.max_payload_mb}


def _vpc(vpc: Vpc | None) -> dict[str, Any] | None:
    return {"Subnets": vpc.subnets, "SecurityGroupIds": vpc.security_groups} if vpc else None


def _variables(environment: Environment) -> dict[str, str]:
    for name, value in environment.items():
        if isinstance(value, Secret):
            raise UserError(f"environment.{name}: secrets are for endpoints; let the job read it from Secrets Manager")
    return {name: str(value) for name, value in environment.items()}


def _tags(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
