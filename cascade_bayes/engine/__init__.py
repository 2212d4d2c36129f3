"""Array mathematics of decisions: grid, forward pass, and the search for the best thresholds.

Arrays come in and arrays go out; nothing here knows a posterior or a file.
"""
