"""What acme asks of the programs that it runs."""
