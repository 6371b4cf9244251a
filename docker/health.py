"""Ask a server in this container whether it is well: `health.py URL` exits 0 at a 200, else 1.

The key that the server wants comes from the environment, as the server's own does.
"""

import http.client
import os
import sys
import urllib.request

SECONDS = 4


def is_well(url: str, key: str | None) -> bool:
    """Say whether the address answers 200 in time; no proxy stands between."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=SECONDS) as answer:
            return bool(answer.status == http.HTTPStatus.OK)
    except (OSError, http.client.HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(0 if is_well(sys.argv[1], os.environ.get("QUANTALE_API_KEY") or None) else 1)
