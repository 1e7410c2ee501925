"""From the papers' set-up to what is run here, one change a rung."""
