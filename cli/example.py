"""What a newcomer copies into a second terminal after `millrace up`. A test runs it as it is printed."""

import sys


def example(api_url: str, token: str) -> str:
    return f"""\
# Replicate's own client:
export REPLICATE_API_TOKEN={token}
export REPLICATE_BASE_URL={api_url}
{sys.executable} -m pip install --quiet replicate
{sys.executable} -c 'import replicate; print(replicate.run("millrace/hello-world", input={{"text": "Ada"}}))'

# The same with curl:
curl -s {api_url}/predictions \\
  -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -H 'Prefer: wait' \\
  -d '{{"version": "millrace/hello-world", "input": {{"text": "Ada"}}}}'
"""
