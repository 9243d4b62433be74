"""The only code that touches the executables: where they are, what they are told, how they are started and ended."""
