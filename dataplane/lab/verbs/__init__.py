"""The verbs of `udplane lab`, one module each: HELP, `add_arguments(parser)`, `run(arguments)`."""
