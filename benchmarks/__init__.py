"""Timed comparisons: ``python -m benchmarks`` measures this machine and writes
``results/bench-<device>.json``.

Cases that are compared run in turn in one process, in rotating order, so that a drift of the
machine hits all alike; what is reported are medians with quartiles over the rounds, ratios taken
round by round, and the share of the floor (``vggbook.roofline``) whose two ceilings are measured in
the same run. ``python -m benchmarks.gpu`` is the same for a GPU, within ten minutes.
"""
