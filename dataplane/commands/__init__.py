"""What `udplane COMMAND` does, one module a command; `dataplane.cli` finds it by its name."""
