"""The command line: parses strings, shows reports, sets the exit code; does no arithmetic of its own."""
