"""OpenAI's requests for a language model, mapped to Triton's generate extension; loaded by the first such request."""
