"""Tests run two at a time, each on one thread: on small shapes more threads only wait for each other."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the processes that tests start inherit it
