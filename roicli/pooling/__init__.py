"""Arrays in, arrays out: no files, no processes, no flags."""
