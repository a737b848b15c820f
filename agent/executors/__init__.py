"""Where requests are measured: in this process or in worker processes."""
