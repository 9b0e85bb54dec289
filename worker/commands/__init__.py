"""One module for each `python -m worker <command>`, with a `main(settings)`; a process imports only its own."""
