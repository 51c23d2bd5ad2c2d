"""One self-contained HTML page of a run: the verdict, what to look at, and the whole lambda axis to move along."""
