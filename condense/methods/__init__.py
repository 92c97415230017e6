"""What runs a method: its interface and registry, requests, `distill` and `estimate`, the loop and its checkpoints."""
