"""The configuration: YAML and environment in, models out; errors with file, line, key and what is allowed."""
