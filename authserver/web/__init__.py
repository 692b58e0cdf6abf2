"""HTTP: one endpoint per file, and the application that holds them."""
