"""The bundle, its sessions, views and votes. Neither TensorFlow nor Keras is imported here."""
