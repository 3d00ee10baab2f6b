"""Pushtrain: from a `train.yml` in a git repository to a registered model."""
