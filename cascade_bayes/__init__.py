"""cascade_bayes."""
