"""SRe2L: images that a teacher classifies, and that have the statistics of its training.

Yin, Xing & Shen, "Squeeze, Recover and Relabel", NeurIPS 2023, equations 4 to 7, in the form of the released code: the
last images are kept, not the best ones; norms of statistics are not squared, and the first layer's count ten times.
The total-variation and l2 terms of its options are 0 in its commands and are not here.

SRe2L++ (Cui et al., CV-DD, CVPR 2025) is the same from patches of real images, with crops on every data set; recipe
`plusplus`. What "medium" patches are no released code says, they are downloaded; here they are those in the middle of
the teachers' ranking.
"""

from __future__ import annotations

from condense.synthesizers.recovery.base import Recovery, RecoverySettings


class SqueezeRecover(Recovery[RecoverySettings]):
    """Everything that recoveries share, and nothing else."""
