"""One process per engine, each in that engine's environment, all driven alike. Only NumPy may be assumed here."""
