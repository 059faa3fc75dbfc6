"""What goes wrong on purpose: floods and crashes, measured. Not part of the test suite; each is a module to run."""
