"""What users ask of a fit: a frontier, the best policy, what it will do, and what more labels are worth."""
