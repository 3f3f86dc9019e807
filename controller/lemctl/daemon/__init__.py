"""The daemon: where campaign, store, engines, gate, meters and judge meet. Read `experiment.py` first."""
