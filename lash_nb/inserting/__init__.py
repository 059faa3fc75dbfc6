"""A turn's code as ordinary cells of the notebook: made (`consolidating`), tried out and offered (`offering`)."""
