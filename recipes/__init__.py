"""The recipe sets that come with the toolkit, as YAML."""
