"""One self-contained page of data, training, ensemble, views, cost and provenance."""
