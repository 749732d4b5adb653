"""The command line: a command per file; parse, call the API, print."""
