"""Teachers: networks trained on the real data, stored with all that is needed to ask them, alone or as a committee."""

from __future__ import annotations

from condense.teachers.committee import Committee
from condense.teachers.teacher import Teacher

__all__ = ["Committee", "Teacher"]
