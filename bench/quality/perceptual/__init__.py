"""Metrics by networks: CLIP-I, DINO-I, LPIPS, FID. Weights come from where the user says."""
