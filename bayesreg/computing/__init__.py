"""Arrays, threads, devices and memory, and the passes over rows that everything stands on."""
