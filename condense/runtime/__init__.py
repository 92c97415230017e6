"""What every part stands on: errors, seeds, files, devices, progress and provenance."""
