"""What every room stands on: errors, seeds, files, devices, processes, progress and provenance."""
