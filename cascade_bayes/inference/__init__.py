"""Fit the generative model, and hold what came out."""
