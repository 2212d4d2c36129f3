"""Thresholds under the posterior: exact forward pass, optimisation, frontier, policy."""
