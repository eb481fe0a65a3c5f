"""Jobs: names in, files and a report out. Each binds names to objects; none knows the command line or prints.

Each is imported from its own file, so that one command does not load the jobs of all others.
"""
