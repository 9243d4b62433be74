"""Measurements: the same program natively and inside, in turns, in one run on one machine."""
