"""CPU and memory policies of a running container: what is set, what is measured, who decides.

Everything works on a set of host threads and the control groups they are in, so it serves containers of both kernels
and those of other runtimes alike.
"""
