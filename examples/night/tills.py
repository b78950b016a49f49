"""The tills of three shops write what was sold on each of the last five days."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

PRICES = {"lima": "1.20", "oslo": "0.90", "rome": "1.10"}
if "new" in sys.argv:
    PRICES["rome"] = '"1,10"'

for days in range(1, 6):
    day = datetime.now(UTC).date() - timedelta(days=days)
    folder = Path("sales") / day.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    for shop, price in PRICES.items():
        rows = f"product,pieces,price\nfigs,{10 * days},{price}\npears,100,0.50\n"
        (folder / f"{shop}.csv").write_text(rows, encoding="utf-8")
