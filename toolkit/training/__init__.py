"""Recipes, models, stages and run folders. Only the Keras 3 API, so that any backend trains."""
