"""The templates that the LLM reads, one file per template."""
