"""Network: documents from where a client or an issuer says they are, and no way into the network behind."""
