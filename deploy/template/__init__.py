"""From a declared file to a CloudFormation template: a pure function, without AWS."""
