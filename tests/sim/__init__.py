"""Simulation of whole runs: the real scheduler and real client machines, all else made up from one seed."""
