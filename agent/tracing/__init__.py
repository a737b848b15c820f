"""What records a traced program: `agent.trace` is its door."""
