"""Engines: from a backend's name to a live runner session, in a container or as a child process."""
