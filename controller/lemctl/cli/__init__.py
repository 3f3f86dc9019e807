"""What a person types: one module per noun. Parse, call, print; nothing heavy is imported before it is needed."""
