"""One interface to every model: OpenAI, Anthropic, servers that speak like them, and the embedded one."""
