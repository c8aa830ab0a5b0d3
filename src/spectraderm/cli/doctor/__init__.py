"""What this machine has of what SpectraDerm needs: what works, what will be used, what is missing, and what to do."""
