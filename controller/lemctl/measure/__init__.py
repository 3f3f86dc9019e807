"""Reading the hardware: GPU sensors, energy meters, baselines, and the facts that a figure depends on."""
