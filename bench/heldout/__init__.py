"""Held-out cases: scenes, objects and rough masks drawn by code that training never sees."""
