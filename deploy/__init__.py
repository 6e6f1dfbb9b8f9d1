"""Hosting patterns from one declared file, on CloudFormation. It meets `serve` and `ncf` in files and HTTP alone."""
