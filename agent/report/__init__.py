"""The report: one HTML file for people, drawn from one fold over a run's journal."""
