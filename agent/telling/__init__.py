"""What people are told of a run, in words: for the command line, sessions, reports and pages alike."""
