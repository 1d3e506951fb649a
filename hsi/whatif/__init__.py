"""What-if: a stretch of the log again through other settings, in a folder of its own."""
