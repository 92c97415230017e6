"""Expert trajectories: how they are trained, stored and sampled."""
