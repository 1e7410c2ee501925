"""Procedurally drawn training pairs: objects of eight categories, on white and in scenes."""

from a2edit.training.scenes.kinds import CATEGORIES, KINDS, Kind, Split
from a2edit.training.scenes.sample import Sample, draw_sample
from a2edit.training.scenes.sheet import contact_sheet

__all__ = ["CATEGORIES", "KINDS", "Kind", "Sample", "Split", "contact_sheet", "draw_sample"]
