"""`lemctl status --watch`: the same state, live, with the keys to steer it. Reads the database; never a sensor."""
