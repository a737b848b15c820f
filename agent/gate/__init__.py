"""The gate: evidence, the race that steers the search, and the exam that decides what may be claimed."""
