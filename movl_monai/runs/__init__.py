"""Record of a run (run.json): keep it, read it, open the run again."""
