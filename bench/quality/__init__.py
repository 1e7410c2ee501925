"""How good the edits are: cases by mask kind, metrics with and without weights, a report."""
