"""Checkpoint to bundle: graphs, merged weight sets, engines, verification, a2edit-build."""
