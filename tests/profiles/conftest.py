"""The workloads stand beside the tests, as the script that learns from them needs no package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
