"""What users do instead of making a set: trainings on real images that choose, or are helped, while they train."""

from condense.baselines.base import Baseline
from condense.baselines.making import baseline

__all__ = ["Baseline", "baseline"]
