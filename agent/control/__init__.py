"""How other processes find a run that is driven, and steer it: a unix socket whose address is in the run folder."""
