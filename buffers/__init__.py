"""Expert trajectories: how they are trained, stored and sampled."""

from __future__ import annotations

from buffers.record import Recording, record_experts
from buffers.rules import ExpertRule, expert_rule
from buffers.store import ExpertBuffer

__all__ = ["ExpertBuffer", "ExpertRule", "Recording", "expert_rule", "record_experts"]
