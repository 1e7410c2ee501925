"""Merging of experts into weights: reference.py is the truth every faster kernel is held to."""
