"""`ncf-deploy load-test`: a rising rate of requests, what it measured, and the scaling that follows from it."""
