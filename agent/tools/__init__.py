"""The tools that the LLM may call, one file per tool. None yet: they come with the proposer that calls them."""
