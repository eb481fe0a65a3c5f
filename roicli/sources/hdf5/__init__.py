"""Feature maps in HDF5 files."""
