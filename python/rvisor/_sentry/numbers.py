"""Linux's numbers of signals, without the module `signal`, which takes longer to import than a command takes."""

from __future__ import annotations

SIGHUP, SIGINT, SIGQUIT, SIGKILL = 1, 2, 3, 9
SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM = 10, 12, 13, 14, 15
SIGCONT, SIGXFSZ, SIGWINCH = 18, 25, 28
