"""Repositories on GitHub, looked at from time to time -> runs started, told of and published: no workflow, no port."""
