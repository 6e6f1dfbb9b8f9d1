"""What a rule finds, and the pages of AWS's documentation that the rules cite."""

from __future__ import annotations

from typing import NamedTuple

from deploy.file.source import Keys


class Page(NamedTuple):
    title: str
    address: str


class Finding(NamedTuple):
    """A key of the file, a sentence with the remedy, and the page with the rule."""

    keys: Keys
    message: str
    page: Page


def _guide(title: str, name: str) -> Page:
    return Page(title, f"https://docs.aws.amazon.com/sagemaker/latest/dg/{name}.html")


def _api(name: str) -> Page:
    return Page(name, f"https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_{name}.html")


BRING_CONTAINER = _guide("Build Your Own Container for Multi-Model Endpoints", "build-multi-model-build-container")
MME_CONTRACT = _guide("Custom Containers Contract for Multi-Model Endpoints", "mms-container-apis")
MULTI_CONTAINER = _guide("Create a multi-container endpoint (Boto 3)", "multi-container-create")
SERVERLESS = _guide("Deploy models with Amazon SageMaker Serverless Inference", "serverless-endpoints")
SERVERLESS_CONFIG = _api("ProductionVariantServerlessConfig")
SHADOW_EXCLUSIONS = _guide("Shadow tests: Exclusions", "shadow-tests-exclusions")
SHADOW_CREATE = _guide("Create a shadow test", "shadow-tests-create")
GUARDRAIL_EXCLUSIONS = _guide("Deployment guardrails: Exclusions", "deployment-guardrails-exclusions")
CANARY = _guide("Use canary traffic shifting", "deployment-guardrails-blue-green-canary")
LINEAR = _guide("Use linear traffic shifting", "deployment-guardrails-blue-green-linear")
ROLLING = _api("RollingUpdatePolicy")
ASYNC = _guide("Asynchronous inference", "async-inference")
ASYNC_SCALING = _guide("Autoscale an asynchronous endpoint", "async-inference-autoscale")
AMI = _api("ProductionVariant")
ENVIRONMENT = _api("ContainerDefinition")
ENDPOINT_CONFIG = _api("CreateEndpointConfig")
HOSTING_IMAGES = _guide("Custom Inference Code with Hosting Services", "your-algorithms-inference-code")
TRANSFORM = _api("CreateTransformJob")
FILTERS = _guide("Associate Prediction Results with Input Records", "batch-transform-data-processing")
TRAINING = _api("CreateTrainingJob")
LAMBDA = Page("Lambda quotas", "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html")
LAMBDA_IMAGES = Page(
    "Create a Lambda function using a container image",
    "https://docs.aws.amazon.com/lambda/latest/dg/images-create.html",
)
TAGGING = Page(
    "Tag naming and usage conventions", "https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html"
)
SECRETS = Page(
    "Get a secret from Secrets Manager with a dynamic reference",
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references-secretsmanager.html",
)
STACK = Page("CreateStack", "https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html")
