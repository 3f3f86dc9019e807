"""A rehearsal: the real plan, store, daemon logic, gate and judge, with an engine and a GPU that are computed.

Time is a clock that moves when somebody waits, so that a week of nights takes seconds. Everything random follows from a
seed. Its state folder is its own, and its campaigns carry the executor `simulate`, which every report shows.
"""

from lemctl.simulate.run import run_campaign

__all__ = ["run_campaign"]
