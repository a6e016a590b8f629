"""Stages, run folders, checkpoints, figures, reports."""
