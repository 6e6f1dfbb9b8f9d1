"""What an instance type says about its hardware, and which AMI has a driver for an image's CUDA."""

from __future__ import annotations

import re

# CUDA version of each AMI's driver, oldest first (API_ProductionVariant, InferenceAmiVersion).
AMIS = {
    "al2-ami-sagemaker-inference-gpu-2": 12.2,
    "al2-ami-sagemaker-inference-gpu-2-1": 12.2,
    "al2-ami-sagemaker-inference-gpu-3-1": 12.4,
    "al2023-ami-sagemaker-inference-gpu-4-1": 13.0,
}
GPU = re.compile(r"ml\.(g|p)\d")
# Letters behind the generation: d is a local disk; g and p of these generations have one in any case.
LOCAL_STORAGE = re.compile(r"ml\.([a-z]+\d+[a-z]*d[a-z]*|g4dn|g5|g6e?|g7e?|p4de?|p5e?n?|p6[\w-]*|trn\d\w*|i\d\w*)\.")
ARM = re.compile(r"ml\.([cmr]\d+g[a-z]*|g5g|t4g|x2gd)\.")


def has_gpu(instance_type: str) -> bool:
    return bool(GPU.match(instance_type)) and not ARM.match(instance_type)


def has_local_storage(instance_type: str) -> bool:
    return bool(LOCAL_STORAGE.match(instance_type))


def is_arm(instance_type: str) -> bool:
    return bool(ARM.match(instance_type))


def ami_for(instance_type: str, cuda: float) -> str | None:
    """The AMI to name: the driver of a type's default one is 470 to 550, too old for CUDA 12.2 and later.

    CUDA runs on a driver of its own version or later; within a major version an older driver of 12 does too.
    """
    if not has_gpu(instance_type) or cuda < 12:
        return None
    return next((ami for ami, has in AMIS.items() if has >= cuda), list(AMIS)[-1])
