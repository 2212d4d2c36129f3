"""The generative model: parameters, priors, likelihood, simulation."""
