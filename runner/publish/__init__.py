"""Where a model's version is published: on GitHub, as a release that is a shelf of the model registry."""
