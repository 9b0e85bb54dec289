"""`millrace token create`: an operator's way to a token, past the api, which would ask for one."""

import asyncio
import sys

from sqlalchemy.exc import SQLAlchemyError

from core import accounts, tokens
from core.errors import NotFound
from core.resources import open_resources
from core.settings import get_settings


async def create(username: str, name: str) -> str:
    """Raises `NotFound` where there is no such account."""
    token = tokens.new_token()
    async with open_resources(get_settings()) as resources, resources.database.transaction() as tx:
        account = await accounts.by_username(tx, username)
        await tokens.add(tx, account.id, token, name)
    return token


def main() -> int:
    username, name = sys.argv[1:]
    try:
        sys.stdout.write(asyncio.run(create(username, name)) + "\n")
    except NotFound:
        sys.stderr.write(f"There is no account {username}.\n")
        return 1
    except (SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"The database does not answer; is Millrace running? ({' '.join(str(error).split())})\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
