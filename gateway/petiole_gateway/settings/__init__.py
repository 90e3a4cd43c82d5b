"""What a gateway is told: one TOML file, checked, explained and shown."""
