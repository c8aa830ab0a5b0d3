"""Predictions over HTTP: what is asked, what it may cost, and the processes that answer."""
