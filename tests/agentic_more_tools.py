"""A tool of the same name as one in `agentic_user_tools`."""


def lookup(gene: str) -> str:
    """What is known of a gene."""
    return f"{gene} is better known"
