"""Other programs and agents: as proposers of a run over HTTP, and as its users over MCP."""
