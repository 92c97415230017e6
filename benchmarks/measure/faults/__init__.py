"""`python -m benchmarks.measure.faults kills|mutations|limits --out FILE`: what happens when something goes wrong.

    kills      commands that are killed at random moments and started again: same files, nothing left over
    mutations  damaged and hostile inputs of every format: equal contents or one sentence, never anything else
    limits     a full disk, few open files, little memory: one sentence, old files intact, and it goes on afterwards

Work is done in forked processes, so that torch is imported once. The JSON is written after every trial, and the same
command goes on from it.
"""
