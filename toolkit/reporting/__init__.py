"""What people read: submissions, latency reports, tables of a machine, pictures."""
