"""SageMaker's training contract: the folders under /opt/ml, several hosts, the failure file."""
