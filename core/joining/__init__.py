"""How machines join as Nodes: tokens to join with, who has joined, certificates, and what is said on the wire."""
