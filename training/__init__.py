"""How the embedded model is made: MATS masks, drawn scenes, the training loop, a2edit-train."""
