"""`serve` as an AWS Lambda function: Lambda's events become requests to it, and its answers become Lambda's results."""
