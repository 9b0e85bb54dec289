"""The door for nodes on other machines: TLS in, and what this machine's own node has, out."""
