"""`ncf-deploy local`: SageMaker's behaviour on this machine, for a rehearsal; no platform for production."""
