"""Simulation-based calibration: fits and decisions of tables whose cascade is known."""
