"""What makes condensed graphs: one file for each method, and what several of them share.

`interface` says what every method is given and what it gives back; `condense.graphs.distill` runs them.
"""
