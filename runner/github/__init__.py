"""GitHub's API as the product uses it: the only package that imports PyGithub."""
