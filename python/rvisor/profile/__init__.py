"""Profiles: what a container may do and how it is served, in one TOML file that both kernels obey.

vocabulary    the names of system calls and capabilities
model         one profile as values
fields        which keys a file may have: for the reader, the JSON schema and the reference
read          TOML files to profiles; where something was said
conditions    conditions on arguments, as text
filter        rules on system calls, compiled to a seccomp program
"""
