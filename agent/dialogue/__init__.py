"""The interactive session: a person and a run that talk while it goes on."""
