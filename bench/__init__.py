"""Latency, memory and quality figures: the measures, and a2edit-bench."""
