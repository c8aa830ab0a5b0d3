"""What everything else stands on: errors, files, locks, the run folder, progress. Knows nothing of photos."""
