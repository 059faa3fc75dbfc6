"""The turn machine, its records and how they are written."""
