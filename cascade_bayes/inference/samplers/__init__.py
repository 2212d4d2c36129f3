"""Ways to draw from densities of many tables and models side by side."""
