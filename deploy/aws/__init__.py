"""What is asked of AWS: stacks, uploads, logs, images, the registry, jobs. The only room with boto3's clients."""
