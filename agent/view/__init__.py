"""The live view: a page that follows runs as they go, served to this machine alone."""
