"""Programs as values of parameters: what can be said about them without running them, and how they are changed."""
