"""Policies: thresholds to deploy, their file, the decisions they make, and what is paid for.

Nothing here needs JAX.
"""
