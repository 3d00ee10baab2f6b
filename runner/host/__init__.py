"""What happens on one host: fetch, start, follow, sync, stop. One process per host, JSON lines over a pipe."""
