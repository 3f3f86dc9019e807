"""From stored results to what a person reads: tables, CSV, JSON. Pure: rows in, text out."""
