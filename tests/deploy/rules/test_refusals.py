"""What AWS would refuse is refused here: each rule, with its remedy and the page that states it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import UserError
from tests.deploy.support import HOSTED, IMAGE, SINGLE, check, indented

GPU = SINGLE.replace("ml.c6i.xlarge", "ml.g5.xlarge")
MANY = SINGLE.replace("model: s3://my-bucket/models/food.tar.gz", "models: s3://my-bucket/many/")
SERVERLESS = SINGLE.replace(
    "instances: {type: ml.c6i.xlarge, count: 2}", "serverless: {memory_mb: 2048, max_concurrency: 5}"
)
ASYNC = SINGLE + "asynchronous: {input: s3://my-bucket/in, output: s3://my-bucket/out}\n"
FUNCTION = f"name: food\nregion: eu-central-1\nlambda:\n  image: {IMAGE}\n"
ROLLBACK_BY_11 = f"update: {{strategy: all_at_once, rollback: {{errors_percent: 1, alarms: [{'a, ' * 9}]}}}}\n"
SHADOW = f"shadow:\n{indented(HOSTED)}"


def variants(*names: str, more: str = "") -> str:
    return "name: food\nvariants:\n" + "".join(f"- name: {name}\n{more}{indented(HOSTED)}" for name in names)


def containers(count: int, mode: str = "serial", line: str = "") -> str:
    each = "".join(f"- {{image: {IMAGE}, name: c{number}{line}}}\n" for number in range(count))
    return f"name: food\ncontainers:\n{each}invocation: {mode}\ninstances: {{type: ml.c6i.xlarge}}\n"


CASES = [
    # names and numbers of things
    (SINGLE.replace("name: food", "name: food_1"), ":1: name is 'food_1'", "CreateStack"),
    (SINGLE.replace("name: food", f"name: {'f' * 64}"), "with 64 characters", "CreateStack"),
    (SINGLE.replace("name: food", "name: 1food"), "begin with a letter", "CreateStack"),
    (SINGLE + "tags: {aws:team: x}\n", "tag aws:team begins with aws:", "tagging"),
    (variants("A", "A"), ":8: variants[1].name: variants are named A and A", "CreateEndpointConfig"),
    (variants("a-b", "ab"), "variants are named a-b and ab", "CreateEndpointConfig"),
    (variants(*"ABCDEFGHIJK"), "there are 11 variants; an endpoint has at most 10", "CreateEndpointConfig"),
    (variants("A", "B", more="  weight: 0\n"), "all weights are 0", "CreateEndpointConfig"),
    (containers(16), "there are 16 containers", "multi-container-create"),
    (containers(1), "there are 1 containers", "multi-container-create"),
    (containers(2, "direct").replace(", name: c1", ""), "name is missing; with invocation direct", "multi-container"),
    (containers(2, "direct").replace("c1", "c0"), "two containers are named c0", "multi-container-create"),
    (containers(2, "direct", ", models: s3://my-bucket/m/"), "with invocation direct a container has one", "multi-c"),
    (
        SINGLE.replace("  model:", f"  environment: {{{', '.join(f'V{n}: x' for n in range(101))}}}\n  model:"),
        "environment has 101 entries; a container has at most 100",
        "ContainerDefinition",
    ),
    (SINGLE.replace("  model:", f"  environment: {{A: {'x' * 1025}}}\n  model:"), "has 1,025 characters", "ContainerD"),
    (SINGLE.replace("  model:", "  environment: {DB_PASSWORD: x}\n  model:"), "looks like a secret", "secretsmanager"),
    # images and instances
    (SINGLE.replace(IMAGE, "docker.io/me/ncf:1"), "it must be in ECR", "your-algorithms-inference-code"),
    (SINGLE.replace("region: eu-c", "region: us-c"), "image is in eu-central-1 and the endpoint in us-central-1", "yo"),
    (SINGLE.replace("ml.c6i.xlarge", "ml.c7g.xlarge"), "has an arm64 processor", "your-algorithms-inference-code"),
    (SINGLE.replace("count: 2", "count: 0"), "count is 0; an endpoint starts with 1", "CreateEndpointConfig"),
    (
        GPU.replace("count: 2", "count: 2, ami: al2-ami-sagemaker-inference-gpu-3-1"),
        "is for CUDA 12.4, and the image has CUDA 13.0; leave out ami to get al2023-ami-sagemaker-inference-gpu-4-1",
        "ProductionVariant",
    ),
    (SINGLE.replace("count: 2", "count: 2, ami: al2023-ami-sagemaker-inference-gpu-4-1"), "has no GPU", "ProductionVa"),
    (MANY.replace("ml.c6i.xlarge", "ml.g5.xlarge"), "needs an image built on AWS's own Triton", "mms-container-apis"),
    (MANY.replace("many/", "many"), "a prefix ends with /", "build-multi-model-build-container"),
    (SINGLE.replace("  model:", "  aws_triton_base: true\n  model:"), "is for multi-model", "mms-container-apis"),
    # serverless
    (SERVERLESS.replace("2048", "512"), "memory_mb is 512; it is one of 1024", "ProductionVariantServerlessConfig"),
    (SERVERLESS.replace("2048", "1500"), "memory_mb is 1500; it is one of 1024", "ProductionVariantServerlessConfig"),
    (SERVERLESS.replace("2048", "7168"), "memory_mb is 7168; it is one of 1024", "ProductionVariantServerlessConfig"),
    (SERVERLESS.replace("y: 5", "y: 201"), "max_concurrency is 201; it is 1 to 200", "ProductionVariantServerless"),
    (SERVERLESS.replace("y: 5", "y: 5, provisioned_concurrency: 6"), "is 6; it is 1 to max_concurrency, 5", "Serverle"),
    (MANY.replace("instances: {type: ml.c6i.xlarge, count: 2}", SERVERLESS.splitlines()[-1]), "not multi-model", "ser"),
    (containers(2).replace("instances: {type: ml.c6i.xlarge}", SERVERLESS.splitlines()[-1]), "not of several", "serve"),
    (SERVERLESS + "vpc: {subnets: [subnet-1], security_groups: [sg-1]}\n", "serverless endpoint has no vpc", "serverl"),
    (SERVERLESS + "network_isolation: true\n", "has no network_isolation", "serverless-endpoints"),
    (SERVERLESS + "capture: {to: s3://my-bucket/c}\n", "has no capture", "serverless-endpoints"),
    (ASYNC.replace("instances: {type: ml.c6i.xlarge, count: 2}", SERVERLESS.splitlines()[-1]), "no asynchronous", "se"),
    (
        variants("A", "B").replace("instances: {type: ml.c6i.xlarge, count: 2}", SERVERLESS.splitlines()[-1]),
        "a serverless endpoint has one variant",
        "serverless-endpoints",
    ),
    (
        SERVERLESS + "scaling: {min: 1, max: 2, target: {metric: cpu_percent, value: 50}}\n",
        "metric is cpu_percent; serverless scale by provisioned_concurrency_utilization",
        "serverless",
    ),
    (
        SERVERLESS + "scaling: {min: 1, max: 2, target: {metric: provisioned_concurrency_utilization, value: 0.7}}\n",
        "without provisioned_concurrency there is nothing to scale",
        "serverless",
    ),
    # shadow
    (variants("A", "B") + SHADOW, "with a shadow there is one production variant, and here are 2", "shadow-tests-crea"),
    (variants("A", more="  weight: 2\n") + SHADOW, "beside a shadow the weight is 1", "shadow-tests-create"),
    (MANY + SHADOW, "a multi-model endpoint takes no shadow", "shadow-tests-exclusions"),
    (ASYNC + SHADOW, "an asynchronous endpoint takes no shadow", "shadow-tests-exclusions"),
    (SERVERLESS + SHADOW, "a serverless endpoint takes no shadow", "shadow-tests-exclusions"),
    (containers(2) + SHADOW, "a multi-container endpoint takes no shadow", "shadow-tests-exclusions"),
    (
        SINGLE + SHADOW + "  scaling: {min: 1, max: 2, target: {metric: cpu_percent, value: 50}}\n",
        "a shadow does not scale",
        "shadow-tests-create",
    ),
    # updates
    (SINGLE + "update: {strategy: canary, percent: 51}\n", "percent is 51; with strategy canary it is 1 to 50", "cana"),
    (SINGLE + "update: {strategy: linear, percent: 9}\n", "with strategy linear it is 10 to 50", "linear"),
    (SINGLE + "update: {strategy: rolling, percent: 4}\n", "with strategy rolling it is 5 to 50", "RollingUpdatePolic"),
    (SINGLE + "update: {strategy: all_at_once, wait_seconds: 3601}\n", "wait_seconds is 3601; it is 0 to 3600", "Roll"),
    (SINGLE + "update: {strategy: all_at_once, keep_old_seconds: 3601}\n", "keep_old_seconds is 3601", "Rolling"),
    (SINGLE + "update: {strategy: all_at_once, timeout_seconds: 599}\n", "it is 600 to 28800", "Rolling"),
    (variants("A", "B") + "update: {strategy: rolling, percent: 10}\n", "not for several variants", "guardrails-exclu"),
    (SERVERLESS + "update: {strategy: rolling, percent: 10}\n", "rolling is not for serverless", "guardrails-exclusio"),
    (SINGLE + "update: {strategy: all_at_once, rollback: {}}\n", "rollback has 0 alarms", "canary"),
    (
        variants("A", "B") + ROLLBACK_BY_11,
        "rollback has 11 alarms",
        "canary",
    ),
    # asynchronous
    (MANY + ASYNC.splitlines()[-1] + "\n", "has no target model", "async-inference"),
    (variants("A", "B") + ASYNC.splitlines()[-1] + "\n", "an asynchronous endpoint has one variant", "async-inference"),
    (ASYNC.replace("out}", "out, max_concurrent_per_instance: 1001}"), "it is 1 to 1000", "async-inference"),
    (
        SINGLE + "scaling: {min: 0, max: 2, target: {metric: cpu_percent, value: 50}}\n",
        "min is 0; only an asynchronous endpoint goes down",
        "async-inference-autoscale",
    ),
    (
        SINGLE + "scaling: {min: 1, max: 2, target: {metric: backlog_per_instance, value: 5}}\n",
        "backlog_per_instance is for asynchronous endpoints",
        "async-inference-autoscale",
    ),
    # Lambda
    (FUNCTION + "  memory_mb: 10241\n", "memory_mb is 10241; it is 128 to 10,240", "gettingstarted-limits"),
    (FUNCTION + "  timeout_seconds: 901\n", "timeout_seconds is 901; it is 1 to 900", "gettingstarted-limits"),
    (FUNCTION + "  temporary_mb: 511\n", "temporary_mb is 511", "gettingstarted-limits"),
    (FUNCTION + f"  environment: {{A: {'x' * 4096}}}\n", "has 4,097 bytes; a function has at most", "gettingstarted-l"),
    (FUNCTION.replace("region: eu-c", "region: us-c"), "push it to us-central-1 too", "images-create"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "page"), CASES, ids=lambda value: value[:40] if ":" not in value else "")
def test_refused_before_aws_refuses_it(text: str, message: str, page: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check(tmp_path, text)
    refusal = str(caught.value)
    assert message in refusal
    assert page in refusal
    assert "https://docs.aws.amazon.com/" in refusal


def test_the_cases_differ_from_good_files_by_their_mistake_alone(tmp_path: Path) -> None:
    for text in (SINGLE, GPU, MANY, SERVERLESS, ASYNC, FUNCTION, SINGLE + SHADOW, variants("A", "B"), containers(2)):
        check(tmp_path, text)
    check(tmp_path, containers(2, "direct"))
    check(tmp_path, MANY.replace("ml.c6i", "ml.g5").replace("  models:", "  aws_triton_base: true\n  models:"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SINGLE.replace("ml.c6i.xlarge", "ml.c6i.huge"), ":6: instances.type is ml.c6i.huge; it is one of ml.c6i."),
        (SINGLE.replace("count: 2", "count: 2, volume_gb: 513"), ":6: instances.volume_gb is 513; it is 1 to 512"),
        (SINGLE.replace("count: 2", "count: 2, startup_timeout_seconds: 30"), "startup_timeout_seconds is 30; it is 6"),
        (SINGLE.replace("count: 2", "count: 2, download_timeout_seconds: 9999"), "download_timeout_seconds is 9999; i"),
        (GPU.replace("count: 2", "count: 2, ami: gpu-9"), "instances.ami is gpu-9; it is one of al2-ami-"),
        (FUNCTION + "role: arn:aws:iam::12:role/x\n", ":5: role is arn:aws:iam::12:role/x; it must match"),
        (FUNCTION + "vpc: {subnets: [net-1], security_groups: [sg-1]}\n", "vpc.subnets[0] is net-1; it must match"),
        (variants("A_1"), ":3: variants[0].name is A_1; it must match"),
        (SINGLE.replace("  model:", "  environment: {1A: secret-value}\n  model:"), "1A"),
        (SINGLE + "role: arn:aws:iam::12:role/x\n", ":7: role is arn:aws:iam::12:role/x; it must match"),
        (SINGLE + f"tags: {{a: {'x' * 257}}}\n", "it has 257 characters, and 0 to 256 are taken"),
        (SINGLE + "vpc: {subnets: [not_one], security_groups: [sg-1]}\n", ":7: vpc.subnets[0] is not_one; it must mat"),
    ],
)  # fmt: skip
def test_botocores_model_refuses_what_its_validation_lets_through(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check(tmp_path, text)
    assert expected in str(caught.value)
    assert "by botocore's model of the service" in str(caught.value)
    assert "secret-value" not in str(caught.value)
