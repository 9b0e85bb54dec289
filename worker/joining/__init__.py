"""A node on another machine than the rest: how it joins, what it keeps, and its way to Postgres, Redis and files."""
