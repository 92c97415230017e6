"""Speed in one place: derivatives of networks, the engine that takes them, what work costs, and the plan of a run."""
