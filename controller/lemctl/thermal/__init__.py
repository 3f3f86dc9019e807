"""When a GPU is cool enough to start, and warm enough to measure: pure decisions, and the loop around them."""
