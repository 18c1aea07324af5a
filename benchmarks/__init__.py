"""What this project's speed is measured with: ``python -m benchmarks`` (see README.md here)."""
