"""What a GPU computes by code of ours; numpy says what that is.

reference.py (weights) and activations.py (what stands between matrix products) are the truth that
every faster kernel is held to; triton/ and cuda/ hold those.
"""
