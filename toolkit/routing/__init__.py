"""Routers and their study: learners, baselines, training, evaluation, sweeps."""
