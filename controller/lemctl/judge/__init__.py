"""What the readings say: metrics, FLOPs, statistics and verdicts, all functions of values.

Nothing here reads a clock, a file or a sensor, and nothing here is imported from the rest of the controller.
"""
