"""What the tests share: run natively, run inside, compare."""
