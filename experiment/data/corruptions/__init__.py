"""The ways in which test images are corrupted; `kinds.py` lists them with their strengths."""
