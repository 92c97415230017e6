"""Methods that learn images, the loop they share, and `distill`, which runs any registered method."""
