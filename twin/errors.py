"""What goes wrong on the command line, beside the faults of fleet files and traces."""


class InputError(ValueError):
    """Something that a command was given cannot be used; one line names it and what would be valid."""
