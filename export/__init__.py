"""Checkpoint → bundle: graphs, passes, merge, quantise, compile, verify, report; a2edit-build."""
