"""The tools that the LLM may call, one file per tool."""
