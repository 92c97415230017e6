"""Recovery: images learned from trained teachers alone, in slices that never meet, and choices that teachers make."""
