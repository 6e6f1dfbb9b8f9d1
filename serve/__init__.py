"""The SageMaker-compatible front of a Triton Inference Server."""
